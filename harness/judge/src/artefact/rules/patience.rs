//! `artefact/patience`: early stopping counts every evaluation without improvement, those before a resume too.

use traintrue_logs::{Best, Entry, Log, Patience};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::vocabulary::Component;

use crate::finding::{At, Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule};

pub(crate) static RULE: Rule = Rule {
    name: "artefact/patience",
    says: "the patience counter is the number of evaluations since the best one",
    verifies: "The saved counter of transformers' EarlyStoppingCallback is at least the number of evaluations of that \
               metric after the best one, none of which is better.",
    does_not_verify: "A run whose best metric is not in its log, or in which a later evaluation is better than the best: \
                      older releases keep only a best that was saved. The counters of other callbacks.",
    kind: Kind::Artefact,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Artefact,
    needs: &[Fact::Plan],
};

pub(crate) fn judge(log: &Log, best: &Best, patience: &Patience, sheet: &mut Sheet) {
    let evaluations: Vec<(&Entry, f64)> = match of_the_metric(log, best) {
        Some(name) => log.entries.iter().filter_map(|it| Some((it, it.figures.get(name)?.0))).collect(),
        None => {
            return sheet
                .cannot("the best metric is not in the log, so evaluations since it are not counted");
        }
    };
    let at = evaluations
        .iter()
        .position(|(it, figure)| *figure == best.metric && best.step.is_none_or(|step| it.step == step));
    let Some(at) = at else { return };
    let since = &evaluations[at + 1..];
    let sides = |evaluations: &[(&Entry, f64)]| {
        (
            evaluations.iter().any(|(_, figure)| *figure < best.metric),
            evaluations.iter().any(|(_, figure)| *figure > best.metric),
        )
    };
    if sides(&evaluations) == (true, true) {
        return sheet
            .cannot("an evaluation is better than the best one: which of them were counted is not known");
    }
    let expected = since.len() as u64;
    let place = || At { event: "state".to_owned(), step: log.global_step, ..At::default() };
    sheet.check_at(patience.counter >= expected, 0, place, || Difference {
        expected: format!(
            "{expected} evaluations without improvement: none since step {} is better than {}",
            evaluations[at].0.step, best.metric
        ),
        actual: format!("a counter of {}, with a patience of {}", patience.counter, patience.patience),
        component: Component::Evaluation,
        cause: "the counter began again at a resume, so the run stops later than its patience says".into(),
    });
}

/// The name under which evaluations log the best metric.
fn of_the_metric<'a>(log: &'a Log, best: &Best) -> Option<&'a str> {
    let of_step = |it: &&Entry| best.step.is_none_or(|step| it.step == step);
    log.entries.iter().filter(of_step).find_map(|it| it.evaluated(best.metric))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;
    use serde_json::json;

    use super::super::testing::{broke, holds};
    use super::*;
    use crate::artefact::testing::state_text;

    /// A run with these evaluations, the first of which is the best, and this counter.
    fn judged(losses: &[f64], counter: u64) -> Sheet {
        let text = state_text(|it| {
            let entry = |(at, loss): (usize, &f64)| json!({"step": at + 1, "eval_loss": loss});
            it["log_history"] = losses.iter().enumerate().map(entry).collect();
            (it["best_metric"], it["best_global_step"]) = (json!(losses[0]), json!(1));
            it["stateful_callbacks"] = json!({"EarlyStoppingCallback": {
                "args": {"early_stopping_patience": 3, "early_stopping_threshold": 0.0},
                "attributes": {"early_stopping_patience_counter": counter},
            }});
        });
        let log = traintrue_logs::trainer_state::parse(Path::new("s.json"), &text, false).unwrap();
        let mut sheet = Sheet::default();
        judge(&log, log.best.as_ref().unwrap(), log.patience.as_ref().unwrap(), &mut sheet);
        sheet
    }

    #[rstest]
    #[case::just_found(&[1.0], 0)]
    #[case::two_since(&[1.0, 1.5, 1.0], 2)]
    #[case::smaller_gains_count_too(&[1.0, 1.5], 2)]
    fn a_counter_that_counts_every_evaluation_holds(#[case] losses: &[f64], #[case] counter: u64) {
        holds(&judged(losses, counter));
    }

    #[test]
    fn a_counter_that_began_again_breaks() {
        let found = broke(&judged(&[1.0, 1.5, 1.5, 1.5, 1.5, 1.5], 1));
        assert!(found.contains("expected 5 evaluations without improvement: none since step 1"), "{found}");
        assert!(
            found.contains("found a counter of 1, with a patience of 3: the counter began again"),
            "{found}"
        );
    }

    #[test]
    fn a_better_one_that_was_not_kept_is_not_judged() {
        assert!(judged(&[1.0, 1.5, 0.5], 0).missing.is_some());
    }
}
