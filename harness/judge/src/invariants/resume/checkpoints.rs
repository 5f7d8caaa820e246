//! `checkpoint/old-or-new` and `checkpoint/damage-is-seen`: after a crash or a damaged file, a start finds a complete
//! training state and continues from it as the uninterrupted run.

use std::path::PathBuf;

use traintrue_protocol::trace::event::{CheckpointEdge, Run, State};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line, TraceError};
use traintrue_protocol::vocabulary::{Component, Moment};

use crate::arithmetic::Counts;
use crate::finding::{Difference, Sheet};
use crate::invariants::shared::fields;
use crate::invariants::shared::same::{Divergence, Parting, Scope, walk_last};
use crate::invariants::shared::stream::Stream;
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

pub(crate) static OLD_OR_NEW: Rule = Rule {
    name: "checkpoint/old-or-new",
    says: "a process that dies while it saves leaves exactly the old or exactly the new state",
    verifies: "The start after the crash finds no checkpoint that claims to be complete and is not. The state that it \
               loads is that of the last finished save or of the save that was due, and equals the uninterrupted run's \
               state at that step, tensor for tensor. The run then continues as the uninterrupted run.",
    does_not_verify: "Crashes at moments that the scenario does not try. Disks that report a sync that did not happen.",
    kind: Kind::Pair(old_or_new),
    compares: Compares::Digests,
    judges_a_start: true,
    rank: Rank::Checkpoint,
    needs: &[Fact::Plan],
};

pub(crate) static DAMAGE: Rule = Rule {
    name: "checkpoint/damage-is-seen",
    says: "a damaged checkpoint is reported, and the last good one is loaded in its place",
    verifies: "The start after the damage reports at least one damaged checkpoint. The state that it loads equals the \
               state that the uninterrupted run, or the segment that saved it, had at that place.",
    does_not_verify: "Whether the message names the file and the tensor.",
    kind: Kind::Pair(damage_is_seen),
    compares: Compares::Digests,
    judges_a_start: true,
    rank: Rank::Checkpoint,
    needs: &[Fact::Plan],
};

const COMPONENT: Component = Component::CheckpointStore;

/// What the last segment of a run says about its start.
struct Start {
    segment: usize,
    opening: Run,
    /// The damaged checkpoints that the start reports, in the trainer's words.
    damaged: Vec<String>,
    line: Line,
    /// None if the run started fresh, or ended before it had a state.
    loaded: Option<State>,
}

impl Start {
    fn of(run: &RunEvidence) -> Result<Option<Self>, TraceError> {
        let Some((last, earlier)) = run.segments.split_last() else {
            return Ok(None);
        };
        let mut stream = Stream::of(std::slice::from_ref(last));
        let Some(opening) = stream.run()? else {
            return Ok(None);
        };
        let opening_line = Line { number: 1, event: Event::Run(Box::new(opening.clone())) };
        let mut damaged = Vec::new();
        while let Some(line) = stream.next()? {
            let loaded = match &line.event {
                Event::Checkpoint(it) if it.edge == CheckpointEdge::Loaded => {
                    damaged.clone_from(&it.damaged);
                    continue;
                }
                Event::State(it) => Some(it).filter(|it| it.at == Moment::Loaded).map(|it| State::clone(it)),
                Event::MicroBatch(_) | Event::End(_) => None,
                _ => continue,
            };
            return Ok(Some(Self { segment: earlier.len(), opening, damaged, line, loaded }));
        }
        Ok(Some(Self { segment: earlier.len(), opening, damaged, line: opening_line, loaded: None }))
    }

    fn counts(&self) -> Counts {
        Counts::of(&self.opening.plan, &self.opening.contract)
    }

    fn check(
        &self,
        holds: bool,
        sheet: &mut Sheet,
        describe: impl FnOnce() -> (String, String, String),
    ) -> bool {
        sheet.check_in(self.segment, holds, &self.line, || {
            let (expected, actual, cause) = describe();
            Difference { expected, actual, component: COMPONENT, cause }
        })
    }

    /// The state it loaded; a start without one is a finding.
    fn state(&self, sheet: &mut Sheet) -> Option<&State> {
        self.check(self.loaded.is_some(), sheet, || {
            let actual = format!("a {} event before any loaded state", self.line.event.name());
            (
                "a loaded state".into(),
                actual,
                "no checkpoint was loaded although an older good one exists: check how the start falls back to it".into(),
            )
        });
        self.loaded.as_ref()
    }

    /// Compares the loaded state with the state that training had at that step.
    fn same_state(&self, loaded: &State, reference: Option<State>, sheet: &mut Sheet) {
        let Some(reference) = reference else {
            return sheet.missing(&format!("state at step {} of the uninterrupted run", loaded.step));
        };
        if let Some(differs) = fields::compare_states(loaded, &reference, self.counts(), sheet) {
            self.check(false, sheet, || {
                let expected = format!(
                    "{} {}, as training had it at step {}",
                    differs.field, differs.expected, loaded.step
                );
                (
                    expected,
                    differs.actual,
                    "the checkpoint mixes parts of different steps: write all files before the new checkpoint becomes \
                     visible".into(),
                )
            });
        }
    }
}

fn old_or_new(run: &RunEvidence, against: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    // The segment before the last was killed; the last one is the start that is judged.
    let [.., dying, _] = run.segments.as_slice() else {
        sheet.missing("segment that died and one after it");
        return Ok(());
    };
    let Some(start) = Start::of(run)? else {
        sheet.missing("loaded state");
        return Ok(());
    };
    // A leftover temporary folder is fine. A checkpoint that passes for complete and is damaged is not.
    start.check(start.damaged.is_empty(), sheet, || {
        let cause = "the crash left a checkpoint that claims to be complete but is not: check the order of sync, \
                     manifest and rename";
        ("no damaged checkpoint".into(), start.damaged.join("; "), cause.into())
    });
    let Some(loaded) = start.state(sheet) else {
        return Ok(());
    };
    let (old, new) = saves(dying)?;
    if let Some(old) = old.or(end_of(&run.segments[..run.segments.len() - 2])?.map(|state| state.step)) {
        // The save that was due when the process was killed: the next multiple of save_every.
        let new = new.map_or(old, |every| (old / every).saturating_add(1).saturating_mul(every));
        start.check(loaded.step == old || loaded.step == new, sheet, || {
            let cause = "a finished save was lost, or an unfinished one is taken for complete".into();
            (format!("step {old} or step {new}"), format!("step {}", loaded.step), cause)
        });
    }
    start.same_state(loaded, reference(run, against, &start, loaded)?, sheet);
    if let Some(divergence) = walk_last(run, against, Scope::Training, sheet)? {
        goes_on_otherwise(&divergence, sheet);
    }
    Ok(())
}

fn damage_is_seen(run: &RunEvidence, against: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    if run.segments.len() < 2 {
        sheet.missing("segment after the damage");
        return Ok(());
    }
    let Some(start) = Start::of(run)? else {
        sheet.missing("loaded state");
        return Ok(());
    };
    start.check(!start.damaged.is_empty(), sheet, || {
        let cause =
            "the start does not report the damaged checkpoint: its contents are not verified against a checksum"
                .into();
        ("the damaged checkpoint reported".into(), "none".into(), cause)
    });
    let Some(loaded) = start.state(sheet) else {
        return Ok(());
    };
    start.same_state(loaded, reference(run, against, &start, loaded)?, sheet);
    Ok(())
}

/// The step of the last save that the killed segment finished, and the number of updates between two saves.
fn saves(dying: &PathBuf) -> Result<(Option<u64>, Option<u64>), TraceError> {
    let mut stream = Stream::of_dying(dying);
    let every = stream.run()?.and_then(|run| run.plan.save_every).filter(|&every| every > 0);
    let mut last = None;
    while let Some(line) = stream.next()? {
        if let Event::Checkpoint(it) = &line.event
            && it.edge == CheckpointEdge::Saved
        {
            last = Some(it.step);
        }
    }
    Ok((last, every))
}

/// The state at the end of the last of these segments.
fn end_of(segments: &[PathBuf]) -> Result<Option<State>, TraceError> {
    let Some(last) = segments.last() else {
        return Ok(None);
    };
    find_state(Stream::of_dying(last), |state| state.at == Moment::End)
}

/// The state that training had at the place that the loaded state claims. An earlier segment of the run goes first: a
/// save in the middle of a window has no counterpart in the uninterrupted run's states.
fn reference(
    run: &RunEvidence,
    against: &RunEvidence,
    start: &Start,
    loaded: &State,
) -> Result<Option<State>, TraceError> {
    let counts = start.counts();
    // Two states are of one place only if step and cursor agree: an epoch's edge has two names.
    let place = |state: &State| (state.step, state.cursor.map(|cursor| counts.settle(cursor)));
    for segment in &run.segments[..start.segment] {
        let ended = |state: &State| state.at == Moment::End && place(state) == place(loaded);
        if let Some(state) = find_state(Stream::of_dying(segment), ended)? {
            return Ok(Some(state));
        }
    }
    let updated = |state: &State| state.at == Moment::Update && state.step == loaded.step;
    let state = find_state(Stream::of(&against.segments), updated)?;
    Ok(state.map(|state| after_update(state, loaded, counts)))
}

/// The state that a trainer saves when an update is over. Its own `state` event may come earlier: while the update's
/// gradients can still be measured, and before the evaluation that follows.
fn after_update(state: State, loaded: &State, counts: Counts) -> State {
    State {
        // These fields may legitimately differ between the two moments, so they are taken from the loaded state or
        // derived.
        window: state.cursor.map(|cursor| counts.open_window(cursor)),
        window_digest: loaded.window_digest.clone(),
        best: loaded.best,
        ..state
    }
}

fn find_state(mut stream: Stream, wanted: impl Fn(&State) -> bool) -> Result<Option<State>, TraceError> {
    Ok(match stream.next_where(|event| matches!(event, Event::State(it) if wanted(it)))? {
        Some(Line { event: Event::State(state), .. }) => Some(*state),
        _ => None,
    })
}

fn goes_on_otherwise(divergence: &Divergence, sheet: &mut Sheet) {
    sheet.check_in(divergence.segment, false, &divergence.line, || {
        let (expected, actual) = match &divergence.parting {
            Parting::Field(differs) => {
                (format!("{} {}", differs.field, differs.expected), differs.actual.clone())
            }
            _ => (
                "the uninterrupted run's event".into(),
                format!("a different {} event", divergence.line.event.name()),
            ),
        };
        let cause = "the run goes on from the loaded state, but differs from the uninterrupted run".into();
        Difference { expected, actual, component: COMPONENT, cause }
    });
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::*;
    use traintrue_protocol::number::Number;
    use traintrue_protocol::trace::event::{Checkpoint, Cursor};

    fn saved(step: u64, here: Cursor) -> Event {
        let place = (here.epoch, here.micro_batches);
        Event::Checkpoint(Checkpoint::new(CheckpointEdge::Saved, step, place, "saved"))
    }

    /// A run that stops at micro-batch 2, goes on saving at every update, dies at micro-batch 6, and starts from
    /// `from`. Update 1 is after micro-batch 3 and update 2 after 6; the save of update 1 is finished.
    fn died(from: Cursor) -> Vec<Vec<Event>> {
        let mut plan = plan();
        plan.save_every = Some(1);
        let mut dying = segment(&plan, Some(at(0, 2)), None);
        let update = position(&dying, |event| matches!(event, Event::Update(_)));
        dying.insert(update + 2, saved(1, at(0, 3)));
        let last = position(&dying, |event| matches!(event, Event::MicroBatch(it) if it.index == 5));
        dying.truncate(last + 2);
        vec![segment(&plan, None, Some(at(0, 2))), dying, segment(&plan, Some(from), None)]
    }

    fn start(events: &mut [Event]) -> &mut Checkpoint {
        match &mut events[1] {
            Event::Checkpoint(it) => it,
            other => panic!("the load, not {other:?}"),
        }
    }

    #[rstest]
    #[case::old(at(0, 3))]
    #[case::new(at(0, 6))]
    fn the_old_and_the_new_state_both_hold(#[case] from: Cursor) {
        holds(&judge_runs(OLD_OR_NEW.name, &died(from), &[whole()]));
    }

    #[test]
    fn a_death_before_the_first_save_leaves_the_prepared_state() {
        let mut segments = died(at(0, 2));
        segments[1]
            .retain(|event| !matches!(event, Event::Checkpoint(it) if it.edge == CheckpointEdge::Saved));
        holds(&judge_runs(OLD_OR_NEW.name, &segments, &[whole()]));
    }

    #[rstest]
    #[case::torn(|events: &mut Vec<Event>| start(events).damaged = vec!["saved/3: torn".into()], "claims to be complete")]
    #[case::mixed(|events: &mut Vec<Event>| state_at(events, Moment::Loaded).tensors[1].moments = Some("t:x".into()), "mixes parts")]
    #[case::afresh(|events: &mut Vec<Event>| state_at(events, Moment::Loaded).at = Moment::Start, "no checkpoint was loaded")]
    #[case::goes_on(|events: &mut Vec<Event>| batch_at(events, 1, 1).losses[0].sum = Number(0.1), "goes on from")]
    fn a_start_that_finds_something_else_breaks(#[case] change: fn(&mut Vec<Event>), #[case] cause: &str) {
        let mut segments = died(at(0, 3));
        change(&mut segments[2]);
        let found = breaks(judge_runs(OLD_OR_NEW.name, &segments, &[whole()]), COMPONENT.name());
        assert!(found.contains(cause), "{found}");
    }

    #[test]
    fn a_save_that_was_finished_and_is_gone_breaks() {
        let found = breaks(judge_runs(OLD_OR_NEW.name, &died(at(0, 2)), &[whole()]), COMPONENT.name());
        assert!(found.starts_with("a finished save was lost"), "{found}");
    }

    #[test]
    fn damage_that_is_named_holds_and_damage_that_is_not_breaks() {
        let mut segments = vec![
            segment(&plan(), None, Some(at(0, 3))),
            segment(&plan(), Some(at(0, 3)), Some(at(0, 6))),
            segment(&plan(), Some(at(0, 3)), None),
        ];
        breaks(judge_runs(DAMAGE.name, &segments, &[whole()]), COMPONENT.name());
        start(&mut segments[2]).damaged =
            vec!["saved/6: model.safetensors: projection.weight: checksum".into()];
        holds(&judge_runs(DAMAGE.name, &segments, &[whole()]));
    }
}
