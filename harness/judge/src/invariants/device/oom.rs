//! `oom/told-by-type` and `oom/leaves-a-checkpoint`: running out of memory is told from other errors by its type, and
//! costs no more than the work since the last checkpoint.

use traintrue_protocol::plan::DeviceChoice;
use traintrue_protocol::trace::event::{Checkpoint, CheckpointEdge, End, EndReason, Oom};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line, TraceError};
use traintrue_protocol::vocabulary::{Adaptation, Component};

use crate::finding::{Difference, Sheet};
use crate::invariants::shared::stream::Stream;
use crate::rule::{Compares, Kind, Opening, Rank, Rule, RunEvidence, TraceRule};

pub(crate) static BY_TYPE: Rule = Rule {
    name: "oom/told-by-type",
    says: "a run writes an oom event only if memory ran out",
    verifies: "Every oom event requests more bytes than the device may hold (the budget of the plan's device, or 0 \
               without a budget). A run that ends with an error has an oom event or a message.",
    does_not_verify: "That every lack of memory gives an oom event: oom/leaves-a-checkpoint asks for it if the \
                      scenario makes a run run out of memory.",
    kind: Kind::Trace(|opening| Box::new(ByType::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Device,
    needs: &[Fact::Plan],
};

pub(crate) static LEAVES: Rule = Rule {
    name: "oom/leaves-a-checkpoint",
    says: "a run that is out of memory writes an oom event, and its last checkpoint can be loaded",
    verifies: "The first process of the run writes an oom event and then an end with reason error. The next process \
               loads the checkpoint that the first one saved last, at its step, and reports none as damaged.",
    does_not_verify: "What is in the checkpoint and how the run continues from it (seam/identical, against a run that \
                      was never short of memory).",
    kind: Kind::Run(leaves),
    compares: Compares::Facts,
    judges_a_start: true,
    rank: Rank::Device,
    needs: &[Fact::Plan],
};

struct ByType {
    devices: Vec<DeviceChoice>,
    given_up: usize,
    seen: bool,
}

impl ByType {
    fn new(opening: &Opening) -> Self {
        Self { devices: opening.plan.devices.clone(), given_up: 0, seen: false }
    }

    fn oom(&mut self, it: &Oom, line: &Line, sheet: &mut Sheet) {
        self.seen = true;
        // Each device adaptation moves on to the plan's next device, which has another budget.
        let may_hold = self.devices.get(self.given_up).and_then(|choice| choice.budget_bytes).unwrap_or(0);
        sheet.check(it.requested_bytes > may_hold, line, || Difference {
            expected: format!("a request for more than {may_hold} B on {}", it.device),
            actual: format!("{} B", it.requested_bytes),
            component: Component::ErrorType,
            cause: "another error is taken for out of memory: test the error's type, not the words of its message"
                .into(),
        });
    }

    fn end(&self, it: &End, line: &Line, sheet: &mut Sheet) {
        // An error with an oom event was judged at that event.
        if it.reason == EndReason::Error && !self.seen {
            let said = it.message.as_ref().is_some_and(|message| !message.trim().is_empty());
            sheet.check(said, line, || Difference {
                expected: "an oom event, or an error message".into(),
                actual: "neither".into(),
                component: Component::ErrorType,
                cause:
                    "the run ends with an error that has no message, so it may or may not be out of memory"
                        .into(),
            });
        }
    }
}

impl TraceRule for ByType {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        match &line.event {
            Event::Adapted(it) if it.what == Adaptation::Device => self.given_up += 1,
            Event::Oom(it) => self.oom(it, line, sheet),
            Event::End(it) => self.end(it, line, sheet),
            _ => {}
        }
    }
}

fn leaves(run: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    let [first, .., last] = run.segments.as_slice() else {
        sheet.missing("process after the one that ran out of memory");
        return Ok(());
    };
    // Only the last save counts: earlier ones may have been removed.
    let (mut saved, mut oom, mut ended) = (None, false, None);
    let mut stream = Stream::of(std::slice::from_ref(first));
    while let Some(line) = stream.next()? {
        match &line.event {
            Event::Checkpoint(it) if it.edge == CheckpointEdge::Saved => saved = Some(it.clone()),
            Event::Oom(_) => oom = true,
            Event::End(it) => ended = Some((it.reason, line)),
            _ => {}
        }
    }
    let (Some(saved), Some((reason, line))) = (saved, ended) else {
        sheet.missing("saved checkpoint, or end, of the process that ran out of memory");
        return Ok(());
    };
    sheet.check(oom && reason == EndReason::Error, &line, || Difference {
        expected: "an oom event, and an end with reason error".into(),
        actual: format!("{} oom event, and an end with reason {reason}", if oom { "an" } else { "no" }),
        component: Component::ErrorType,
        cause: "memory ran out, but the trace has no oom event followed by an end with reason error".into(),
    });
    loads(&saved, run.segments.len() - 1, Stream::of(std::slice::from_ref(last)), sheet)
}

/// Compares what the last process loads with what was saved last.
fn loads(
    saved: &Checkpoint,
    segment: usize,
    mut stream: Stream,
    sheet: &mut Sheet,
) -> Result<(), TraceError> {
    let due = format!("the checkpoint of update {}, undamaged", saved.step);
    let describe = |actual: String| Difference {
        expected: due,
        actual,
        component: Component::CheckpointStore,
        cause: "the last good checkpoint was not loaded: keep it until the next save is complete".into(),
    };
    let start = stream.next_where(|event| {
        matches!(event, Event::Checkpoint(it) if it.edge == CheckpointEdge::Loaded)
            || matches!(event, Event::MicroBatch(_) | Event::End(_))
    })?;
    let Some(line) = start else {
        sheet.missing("loaded checkpoint");
        return Ok(());
    };
    let loaded = if let Event::Checkpoint(it) = &line.event { Some(it) } else { None };
    let whole = loaded.is_some_and(|it| it.step == saved.step && it.damaged.is_empty());
    sheet.check_in(segment, whole, &line, || {
        describe(match loaded {
            Some(it) if it.damaged.is_empty() => format!("the checkpoint of update {}", it.step),
            Some(it) => it.damaged.join("; "),
            None => format!("none: {}", said(&line.event)),
        })
    });
    Ok(())
}

fn said(event: &Event) -> &str {
    match event {
        Event::End(End { message: Some(message), .. }) => message,
        other => other.name(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::*;

    fn oom(requested_bytes: u64) -> Event {
        Event::Oom(Oom { device: "ndarray".into(), requested_bytes })
    }

    fn error(message: Option<&str>) -> Event {
        Event::End(End::new(EndReason::Error, message.map(str::to_owned)))
    }

    /// A run whose end is `last`, on a device of 5,000 B.
    fn ending(last: &[Event]) -> Vec<Event> {
        let mut events = whole();
        events.pop();
        if let Event::Run(run) = &mut events[0] {
            run.plan.devices = vec![DeviceChoice { device: None, budget_bytes: Some(5000) }];
        }
        [events, last.to_vec()].concat()
    }

    #[rstest]
    #[case(&[oom(5001), error(Some("out of memory"))])]
    #[case(&[error(Some("memory/model.safetensors: checksum"))])]
    fn an_error_that_is_told_by_its_type_holds(#[case] last: &[Event]) {
        holds(&judge(BY_TYPE.name, &ending(last)));
    }

    #[rstest]
    #[case(&[oom(5000), error(Some("memory/model.safetensors: checksum"))], "another error is taken")]
    #[case(&[oom(0), error(None)], "another error is taken")]
    #[case(&[error(None)], "has no message")]
    fn an_error_that_is_told_by_its_words_breaks(#[case] last: &[Event], #[case] cause: &str) {
        let found = breaks(judge(BY_TYPE.name, &ending(last)), "error-type");
        assert!(found.contains(cause), "{found}");
    }

    /// Update 1 is saved after micro-batch 3, memory runs out at micro-batch 5, and a fresh process goes on.
    fn ran_out() -> Vec<Vec<Event>> {
        let mut first = segment(&plan(), None, Some(at(0, 3)));
        first.pop();
        first.extend([oom(5001), error(Some("out of memory"))]);
        vec![first, segment(&plan(), Some(at(0, 3)), None)]
    }

    fn loaded(segments: &mut [Vec<Event>]) -> &mut Checkpoint {
        match &mut segments[1][1] {
            Event::Checkpoint(it) => it,
            other => panic!("the load, not {other:?}"),
        }
    }

    #[test]
    fn a_run_that_goes_on_from_the_last_checkpoint_holds() {
        let sheet = judge_runs(LEAVES.name, &ran_out(), &[]);
        assert_eq!(sheet.compared, 2);
        holds(&sheet);
    }

    #[rstest]
    #[case::unsaid(|run: &mut [Vec<Event>]| run[0].retain(|event| !matches!(event, Event::Oom(_))), "error-type")]
    #[case::older(|run: &mut [Vec<Event>]| loaded(run).step = 0, "checkpoint-store")]
    #[case::damaged(|run: &mut [Vec<Event>]| loaded(run).damaged = vec!["torn".into()], "checkpoint-store")]
    #[case::gone(|run: &mut [Vec<Event>]| {
        run[1].truncate(1);
        run[1].push(error(Some("no checkpoint here")));
    }, "checkpoint-store")]
    fn a_checkpoint_that_did_not_outlive_it_breaks(
        #[case] change: fn(&mut [Vec<Event>]),
        #[case] component: &str,
    ) {
        let mut segments = ran_out();
        change(&mut segments);
        breaks(judge_runs(LEAVES.name, &segments, &[]), component);
    }
}
