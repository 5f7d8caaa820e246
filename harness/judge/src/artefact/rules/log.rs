//! `artefact/log`: the log's steps increase, no entry is missing, and its values are finite.

use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::vocabulary::Component;

use super::entry;
use crate::artefact::{Entry, TrainerState};
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule};

pub(crate) static RULE: Rule = Rule {
    name: "artefact/log",
    says: "a log's steps increase, no entry is missing, and its values are finite",
    verifies: "Steps and epochs never go backwards. Training is logged once per step and not after global_step. If \
               training is logged every logging_steps updates, each multiple of logging_steps up to global_step has an \
               entry. Every value that a trace cannot express is finite. Learning rates, norms and evaluation losses \
               are judged as a trace (schedule/closed-form, finite/everywhere).",
    does_not_verify: "That the loss was finite at every update: transformers replaces a loss that is not before it \
                      logs a mean, unless logging_nan_inf_filter is off. Missing entries in a log by epochs. If \
                      logging_steps changed during the run, entries appear to be missing.",
    kind: Kind::Artefact,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Artefact,
    needs: &[Fact::Plan],
};

pub(crate) fn judge(state: &TrainerState, sheet: &mut Sheet) {
    if state.log.is_empty() {
        return sheet.cannot("the log is empty");
    }
    for pair in state.log.windows(2) {
        forward(&pair[0], &pair[1], sheet);
    }
    for it in &state.log {
        check(sheet, it, it.step <= state.global_step, || Difference {
            expected: format!("no entry after global_step {}", state.global_step),
            actual: format!("step {}", it.step),
            component: Component::Log,
            cause: "the log continues after global_step: log and counters were not saved together".into(),
        });
        for (name, figure) in it.beside_events() {
            check(sheet, it, figure.is_finite(), || Difference {
                expected: "a finite number".into(),
                actual: format!("{name} {figure}"),
                component: Component::Numerics,
                cause: format!("{name} is not finite at step {}", it.step),
            });
        }
    }
    let training: Vec<&Entry> = state.log.iter().filter(|it| it.is_training()).collect();
    for pair in training.windows(2) {
        check(sheet, pair[1], pair[1].step > pair[0].step, || Difference {
            expected: format!("one training entry per step, the next after step {}", pair[0].step),
            actual: format!("step {}", pair[1].step),
            component: Component::Log,
            cause: "a step is logged twice: a resumed run logs again what its checkpoint already has".into(),
        });
    }
    gaps(state, &training, sheet);
}

fn check(sheet: &mut Sheet, it: &Entry, holds: bool, describe: impl FnOnce() -> Difference) {
    sheet.check_at(holds, it.line, || entry(it.step), describe);
}

fn forward(before: &Entry, it: &Entry, sheet: &mut Sheet) {
    check(sheet, it, it.step >= before.step, || Difference {
        expected: format!("step {} or later", before.step),
        actual: format!("step {}", it.step),
        component: Component::Log,
        cause: "the steps go backwards: a resumed run counts from another step than its log".into(),
    });
    if let Some((was, is)) = before.epoch.zip(it.epoch) {
        check(sheet, it, is >= was, || Difference {
            expected: format!("epoch {was} or later"),
            actual: format!("epoch {is}"),
            component: Component::Log,
            cause: "the epochs go backwards: the position in the data was not restored with the step".into(),
        });
    }
}

/// Entries missing from a log of every `logging_steps` updates. Such a log may also have step 1 (logging_first_step).
fn gaps(state: &TrainerState, training: &[&Entry], sheet: &mut Sheet) {
    let Some(every) = state.logging_steps.filter(|&every| every <= state.global_step) else { return };
    let due = |it: &&&Entry| it.step == 1 || it.step.is_multiple_of(every);
    if training.is_empty() || !training.iter().all(|it| due(&it)) {
        return sheet.cannot(
            "training is not logged at multiples of logging_steps, so missing entries are not checked",
        );
    }
    let mut logged = training.iter().filter(|it| it.step % every == 0).peekable();
    for step in (every..=state.global_step).step_by(usize::try_from(every).unwrap_or(usize::MAX)) {
        // Walks both lists once: a log can have millions of entries.
        while logged.next_if(|it| it.step < step).is_some() {}
        let next = logged.peek().copied().or(training.last());
        let line = next.map_or(0, |it| it.line);
        let there = logged.next_if(|it| it.step == step).is_some();
        sheet.check_at(there, line, || entry(step), || Difference {
            expected: format!("an entry for step {step}: logging_steps is {every}"),
            actual: "none".into(),
            component: Component::Log,
            cause: "updates are missing from the log: it was truncated, or logging_steps changed during the run".into(),
        });
        // One gap is enough for a finding; the next entries would only repeat it.
        if !there {
            return;
        }
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use rstest::rstest;
    use serde_json::{Value, json};

    use super::super::testing::{broke, holds};
    use super::*;
    use crate::artefact::testing::state_text;

    fn judged(change: fn(&mut Value)) -> Sheet {
        let state = TrainerState::parse(Path::new("s.json"), &state_text(change), false).unwrap();
        let mut sheet = Sheet::default();
        judge(&state, &mut sheet);
        sheet
    }

    #[test]
    fn a_healthy_log_holds() {
        let sheet = judged(|_| {});
        holds(&sheet);
        assert_eq!(sheet.missing, None);
    }

    #[rstest]
    #[case::first_too(|it: &mut Value| {
        it["logging_steps"] = json!(5);
        it["log_history"].as_array_mut().unwrap().retain(|it| [1, 5, 10].contains(&it["step"].as_u64().unwrap()));
    }, false)]
    #[case::by_epochs(|it: &mut Value| {
        it["logging_steps"] = json!(4);
        it["log_history"].as_array_mut().unwrap().retain(|it| it["step"].as_u64().unwrap() % 5 == 0);
    }, true)]
    #[case::not_yet(|it: &mut Value| {
        it["logging_steps"] = json!(500);
        it["log_history"].as_array_mut().unwrap().retain(|it| it.get("loss").is_none());
    }, false)]
    #[case::no_training(|it: &mut Value| {
        it["log_history"].as_array_mut().unwrap().retain(|it| it.get("loss").is_none());
    }, true)]
    fn a_log_of_another_rhythm_holds(#[case] change: fn(&mut Value), #[case] unlooked: bool) {
        let sheet = judged(change);
        holds(&sheet);
        assert_eq!(sheet.missing.is_some(), unlooked, "{:?}", sheet.missing);
    }

    #[test]
    fn an_empty_log_is_not_judged() {
        let sheet = judged(|it| it["log_history"] = json!([]));
        assert_eq!((sheet.compared, sheet.missing.as_deref()), (0, Some("the log is empty")));
    }

    // Entry 5 is the evaluation after update 5.
    #[rstest]
    #[case::gap(|it: &mut Value| { it["log_history"].as_array_mut().unwrap().remove(3); }, "an entry for step 4")]
    #[case::cut_end(|it: &mut Value| { it["log_history"].as_array_mut().unwrap().truncate(8); }, "an entry for step 8")]
    #[case::backwards(|it: &mut Value| { it["log_history"].as_array_mut().unwrap().swap(1, 2); }, "expected step 3 or later, found step 2")]
    #[case::twice(|it: &mut Value| { let log = it["log_history"].as_array_mut().unwrap(); log.insert(3, log[2].clone()); }, "a step is logged twice")]
    #[case::epoch(|it: &mut Value| it["log_history"][6]["epoch"] = json!(0.2), "expected epoch 1 or later, found epoch \
        0.2")]
    #[case::after(|it: &mut Value| it["global_step"] = json!(8), "no entry after global_step 8")]
    #[case::nan(|it: &mut Value| it["log_history"][6]["loss"] = json!("nan"), "expected a finite number, found loss \
        NaN: loss is not finite at step 6")]
    #[case::metric(|it: &mut Value| it["log_history"][5]["eval_accuracy"] = json!("-inf"), "found eval_accuracy -inf")]
    fn a_wrong_log_breaks(#[case] change: fn(&mut Value), #[case] expected: &str) {
        let found = broke(&judged(change));
        assert!(found.contains(expected), "{found}");
    }
}
