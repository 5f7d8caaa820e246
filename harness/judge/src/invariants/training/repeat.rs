//! `determinism/repeat`: two runs of one plan give the same trace.

use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, TraceError};
use traintrue_protocol::vocabulary::{Component, Moment};

use crate::finding::{Difference, Sheet};
use crate::invariants::shared::same::{Divergence, Parting, Scope, walk};
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

/// Two runs of one plan give one trace.
pub static RULE: Rule = Rule {
    name: "determinism/repeat",
    says: "two runs of one plan give the same trace",
    verifies: "The micro-batches, updates, evaluations, states, probes and epochs of two runs of one plan are equal, \
               bit for bit. For a trainer that declares that it is not deterministic, order, counts and learning rates \
               are equal and the values are within the spread of its repeats; the report gives the spread.",
    does_not_verify: "Memory and time. Other machines: a trace that repeats here may differ on another processor.",
    kind: Kind::Pair(judge),
    compares: Compares::Repeats,
    judges_a_start: false,
    rank: Rank::Repeat,
    needs: &[Fact::Plan],
};

fn judge(run: &RunEvidence, against: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    let walked = walk(run, against, Scope::Everything, sheet)?;
    if let Some(divergence) = walked.divergence {
        sheet.check_in(divergence.segment, false, &divergence.line, || describe(&divergence));
    }
    Ok(())
}

fn describe(divergence: &Divergence) -> Difference {
    let event = divergence.line.event.name();
    let unseeded = |what: &str| {
        format!(
            "{what} differs between two runs of one plan: check for a random generator that the plan's seed does not \
             set"
        )
    };
    match (&divergence.parting, &divergence.line.event) {
        (Parting::Field(differs), event) => Difference {
            expected: format!("{} {}", differs.field, differs.expected),
            actual: differs.actual.clone(),
            component: if differs.finite { Component::Seeding } else { Component::Numerics },
            cause: match (differs.finite, event, differs.field) {
                (false, ..) => "the value is NaN or infinite in one of the two runs only".into(),
                (_, Event::MicroBatch(_), "samples") => unseeded("the order of the samples"),
                (_, Event::State(it), _) if it.at == Moment::Start => unseeded("the initial state"),
                _ => unseeded(&format!("{} of the {}", differs.field, event.name())),
            },
        },
        _ => Difference {
            expected: "the events of the first run".into(),
            actual: format!("a different {event} event"),
            component: Component::Seeding,
            cause: unseeded("the order of events"),
        },
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::*;
    use traintrue_protocol::number::Number;

    #[test]
    fn a_healthy_repeat_holds() {
        holds(&judge_runs(RULE.name, &[whole()], &[whole()]));
    }

    #[rstest]
    #[case::order(|events: &mut Vec<Event>| batch_at(events, 0, 1).samples = Some(vec![3, 2]), "seeding")]
    #[case::weights(|events: &mut Vec<Event>| state_at(events, Moment::Start).tensors[1].digest = "t:x".into(), "seeding")]
    #[case::missing(|events: &mut Vec<Event>| { events.remove(9); }, "seeding")]
    #[case::nan(|events: &mut Vec<Event>| batch_at(events, 0, 1).losses[0].sum = Number(f64::NAN), "numerics")]
    fn a_repeat_that_differs_breaks(#[case] change: fn(&mut Vec<Event>), #[case] component: &str) {
        let mut events = whole();
        change(&mut events);
        breaks(judge_runs(RULE.name, &[events], &[whole()]), component);
    }
}
