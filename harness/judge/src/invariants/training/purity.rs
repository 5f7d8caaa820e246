//! `purity/same-trajectory`: evaluating and saving do not change the training that follows.

use traintrue_protocol::trace::TraceError;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::vocabulary::Component;

use crate::finding::{Difference, Sheet};
use crate::invariants::shared::fields::{self, Differs};
use crate::invariants::shared::same::{Divergence, Parting, Scope, Suspect, walk};
use crate::invariants::shared::stream::Stream;
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

pub(crate) static RULE: Rule = Rule {
    name: "purity/same-trajectory",
    says: "evaluating, saving and measuring do not change the training that follows",
    verifies: "The micro-batches and updates of a run that evaluates or saves equal those of a run that does not, bit \
               for bit.",
    does_not_verify: "The evaluation's own metric (evaluation/whole-set-mean). What a save writes (reload/same-sets).",
    kind: Kind::Pair(judge),
    compares: Compares::Bits,
    judges_a_start: false,
    rank: Rank::Purity,
    needs: &[Fact::Plan],
};

fn judge(run: &RunEvidence, against: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    let walked = walk(run, against, Scope::Training, sheet)?;
    let (component, act) = intruder(run)?;
    match (walked.suspect, walked.divergence) {
        (Some(Suspect { segment, line, differs }), _) => {
            let (component, cause) = fields::of_state(differs.field);
            sheet.check_in(segment, false, &line, || found(&differs, component, cause.to_owned()));
        }
        (None, Some(divergence)) => {
            let Divergence { segment, line, parting, .. } = divergence;
            let cause = format!("{act} changed the training that followed");
            sheet.check_in(segment, false, &line, || match &parting {
                Parting::Field(differs) if !differs.finite => found(
                    differs,
                    Component::Numerics,
                    "the value is NaN or infinite in one of the two runs only".into(),
                ),
                Parting::Field(differs) => found(differs, component, cause),
                _ => Difference {
                    expected: "the micro-batches and updates of the run without it".into(),
                    actual: format!("a different {} event", line.event.name()),
                    component,
                    cause,
                },
            });
        }
        (None, None) => {}
    }
    Ok(())
}

fn found(differs: &Differs, component: Component, cause: String) -> Difference {
    Difference {
        expected: format!("{} {}", differs.field, differs.expected),
        actual: differs.actual.clone(),
        component,
        cause,
    }
}

/// What the run does that the other does not.
fn intruder(run: &RunEvidence) -> Result<(Component, &'static str), TraceError> {
    let saves = Stream::of(&run.segments).run()?.is_some_and(|first| first.plan.save_every.is_some());
    Ok(if saves || run.segments.len() > 1 {
        (Component::Checkpoint, "saving")
    } else {
        (Component::Evaluation, "evaluating")
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::*;
    use traintrue_protocol::number::Number;
    use traintrue_protocol::trace::Event;

    fn without_evaluation() -> Vec<Event> {
        let mut plan = plan();
        (plan.evaluate_every, plan.state_every) = (None, None);
        segment(&plan, None, None)
    }

    #[test]
    fn a_run_that_evaluates_equals_one_that_does_not() {
        holds(&judge_runs(RULE.name, &[whole()], &[without_evaluation()]));
    }

    #[rstest]
    #[case(false, "evaluation", "evaluating changed")]
    #[case(true, "checkpoint", "saving changed")]
    fn a_run_that_goes_on_otherwise_breaks(
        #[case] saves: bool,
        #[case] component: &str,
        #[case] cause: &str,
    ) {
        let mut events = whole();
        if let Event::Run(run) = &mut events[0] {
            run.plan.save_every = saves.then_some(2);
        }
        batch_at(&mut events, 1, 2).losses[0].sum = Number(0.5);
        let found = breaks(judge_runs(RULE.name, &[events], &[without_evaluation()]), component);
        assert!(found.starts_with(cause), "{found}");
    }
}
