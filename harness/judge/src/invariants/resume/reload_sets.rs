//! `reload/same-sets`: a run loads what it saved.

use traintrue_protocol::plan::Restore;
use traintrue_protocol::trace::event::State;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line, TraceError};
use traintrue_protocol::vocabulary::Moment;

use crate::arithmetic::Counts;
use crate::finding::{Difference, Sheet};
use crate::invariants::shared::fields::{self, Differs};
use crate::invariants::shared::stream::Stream;
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

pub(crate) static RULE: Rule = Rule {
    name: "reload/same-sets",
    says: "a fresh process that loads a checkpoint has the tensors, flags and state that were saved",
    verifies: "The first loaded state of each segment equals the state at the end of the segment before: names, \
               values, which tensors train and which the optimizer holds. If everything is restored, also moments, \
               step, schedule, random stream, cursor, open window and best evaluation.",
    does_not_verify: "That the forward pass uses the loaded tensors (reload/same-outputs).",
    kind: Kind::Run(judge),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Reload,
    needs: &[Fact::Plan],
};

fn judge(run: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    for (index, pair) in run.segments.windows(2).enumerate() {
        let mut before = Stream::of(&pair[..1]);
        let mut after = Stream::of(&pair[1..]);
        let Some(opening) = after.run()? else { continue };
        let what = opening.plan.start.as_ref().map_or(Restore::Everything, |start| start.what);
        let (Some((_, saved)), Some((line, loaded))) =
            (state(&mut before, Moment::End)?, state(&mut after, Moment::Loaded)?)
        else {
            sheet.missing("state at the end of a segment and after the next load");
            continue;
        };
        let differs = match what {
            Restore::Everything => {
                let counts = Counts::of(&opening.plan, &opening.contract);
                fields::compare_states(&loaded, &saved, counts, sheet)
            }
            Restore::Weights => fields::compare_weights(&loaded, &saved, sheet),
        };
        if let Some(differs) = differs {
            sheet.check_in(index + 1, false, &line, || describe(&differs));
        }
    }
    if run.segments.len() < 2 {
        sheet.missing("second segment");
    }
    Ok(())
}

fn state(stream: &mut Stream, when: Moment) -> Result<Option<(Line, State)>, TraceError> {
    let line = stream.next_where(|event| matches!(event, Event::State(it) if it.at == when))?;
    Ok(line.and_then(|line| match &line.event {
        Event::State(it) => Some((line.clone(), State::clone(it))),
        _ => None,
    }))
}

fn describe(differs: &Differs) -> Difference {
    let (component, cause) = fields::of_state(differs.field);
    Difference {
        expected: format!("{} {}, as saved", differs.field, differs.expected),
        actual: differs.actual.clone(),
        component,
        cause: cause.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::*;
    use traintrue_protocol::plan::Start;

    /// The second segment begins a run of its own, from the weights of the first.
    fn from_weights() -> Vec<Vec<Event>> {
        let mut plan = plan();
        plan.start = Some(Start { from: "saved".into(), what: Restore::Weights });
        let mut segments = cut_at(at(0, 3));
        let saved = state_at(&mut segments[0], Moment::End).tensors.clone();
        segments[1] = segment(&plan, Some(at(0, 0)), None);
        let loaded = state_at(&mut segments[1], Moment::Loaded);
        loaded.tensors = saved;
        loaded.tensors.iter_mut().for_each(|tensor| tensor.moments = None);
        segments
    }

    #[rstest]
    #[case::everything(cut_at(at(0, 4)))]
    #[case::weights(from_weights())]
    fn a_healthy_load_holds(#[case] segments: Vec<Vec<Event>>) {
        holds(&judge_runs(RULE.name, &segments, &[]));
    }

    #[rstest]
    #[case::head_dropped(|it: &mut State| { it.tensors.pop(); }, "adapter-loader")]
    #[case::head_frozen(|it: &mut State| it.tensors[2].trainable = false, "adapter-loader")]
    #[case::head_not_optimized(|it: &mut State| it.tensors[2].optimized = false, "optimizer-groups")]
    #[case::head_new(|it: &mut State| it.tensors[2].digest = "t:new".into(), "adapter-loader")]
    fn a_load_that_loses_something_breaks(
        #[case] change: fn(&mut State),
        #[case] component: &str,
        #[values(cut_at(at(0, 4)), from_weights())] mut segments: Vec<Vec<Event>>,
    ) {
        change(state_at(&mut segments[1], Moment::Loaded));
        breaks(judge_runs(RULE.name, &segments, &[]), component);
    }

    #[rstest]
    fn another_scale_of_the_adapters_breaks(
        #[values(cut_at(at(0, 4)), from_weights())] mut segments: Vec<Vec<Event>>,
    ) {
        let scaled = |it: &mut State, scale: &str| {
            it.parts.insert(State::ADAPTER_SCALE.to_owned(), scale.to_owned());
        };
        scaled(state_at(&mut segments[0], Moment::End), "16");
        scaled(state_at(&mut segments[1], Moment::Loaded), "4");
        let found = breaks(judge_runs(RULE.name, &segments, &[]), "adapter-loader");
        assert!(found.contains("came back another"), "{found}");
    }

    #[test]
    fn moments_that_were_not_loaded_break() {
        let mut segments = cut_at(at(0, 4));
        state_at(&mut segments[1], Moment::Loaded).tensors[2].moments = None;
        breaks(judge_runs(RULE.name, &segments, &[]), "moments");
    }

    #[test]
    fn one_segment_cannot_be_judged() {
        assert!(judge_runs(RULE.name, &[whole()], &[]).missing.is_some());
    }
}
