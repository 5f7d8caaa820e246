//! `artefact/log`: the log's steps increase, no entry is missing, and its values are finite.

use traintrue_logs::{Column, Counts, Entry, Log};
use traintrue_protocol::number::Number;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::vocabulary::Component;

use super::entry;
use crate::artefact::files::events::beside_events;
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule};

pub(crate) static RULE: Rule = Rule {
    name: "artefact/log",
    says: "a log's steps increase, no entry is missing, and its values are finite",
    verifies: "Steps and epochs never go backwards. Training is logged once per step and not after global_step. If \
               training is logged every logging_steps updates, each multiple of logging_steps up to global_step has an \
               entry. Every value that a trace cannot express is finite. Learning rates, norms and evaluation losses \
               are judged as a trace (schedule/closed-form, finite/everywhere). In a log that transformers' Trainer did \
               not write: that loss and gradient norm are not NaN or infinite in the last three entries or more.",
    does_not_verify: "That the loss was finite at every update: transformers replaces a loss that is not before it \
                      logs a mean, unless logging_nan_inf_filter is off. Missing entries in a log by epochs. If \
                      logging_steps changed during the run, entries appear to be missing. The steps of a log that \
                      transformers' Trainer did not write: a script may count what it likes. Steps that go back \
                      where the epoch does too: that is a resumed run.",
    kind: Kind::Artefact,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Artefact,
    needs: &[Fact::Plan],
};

/// So many entries in a row that are not finite, up to the end of the log: no loss scaler skips as many.
const GONE_ON: usize = 3;

pub(crate) fn judge(log: &Log, sheet: &mut Sheet) {
    if log.entries.is_empty() {
        return sheet.cannot("the log is empty");
    }
    match log.counts {
        Counts::Updates => of_updates(log, sheet),
        Counts::Own => {
            gone_on(log, Column::Loss, sheet);
            gone_on(log, Column::GradNorm, sheet);
        }
    }
}

fn of_updates(log: &Log, sheet: &mut Sheet) {
    for process in log.processes() {
        for pair in process.windows(2) {
            forward(&pair[0], &pair[1], sheet);
        }
        let training: Vec<&Entry> = process.iter().filter(|it| it.is_training()).collect();
        for pair in training.windows(2) {
            check(sheet, pair[1], pair[1].step > pair[0].step, || Difference {
                expected: format!("one training entry per step, the next after step {}", pair[0].step),
                actual: format!("step {}", pair[1].step),
                component: Component::Log,
                cause: "a step is logged twice: a resumed run logs again what its checkpoint already has"
                    .into(),
            });
        }
    }
    for it in &log.entries {
        if let Some(global_step) = log.global_step {
            check(sheet, it, it.step <= global_step, || Difference {
                expected: format!("no entry after global_step {global_step}"),
                actual: format!("step {}", it.step),
                component: Component::Log,
                cause: "the log continues after global_step: log and counters were not saved together".into(),
            });
        }
        for (name, figure) in beside_events(it) {
            check(sheet, it, figure.is_finite(), || Difference {
                expected: "a finite number".into(),
                actual: format!("{name} {figure}"),
                component: Component::Numerics,
                cause: format!("{name} is not finite at step {}", it.step),
            });
        }
    }
    let training: Vec<&Entry> = log.entries.iter().filter(|it| it.is_training()).collect();
    gaps(log, &training, sheet);
}

/// Whether a figure is not finite up to the end of the log. A script may skip single updates that are not, and a norm
/// that never was finite may be a loss scaler's search for its scale.
fn gone_on(log: &Log, column: Column, sheet: &mut Sheet) {
    let name = column.figure();
    let logged: Vec<(&Entry, Number)> =
        log.entries.iter().filter_map(|it| Some((it, *it.figures.get(name)?))).collect();
    let finite = logged.iter().rposition(|(_, figure)| figure.is_finite()).map_or(0, |at| at + 1);
    let lasting = logged.len() - finite >= GONE_ON && (column == Column::Loss || finite > 0);
    for (at, (it, figure)) in logged.iter().enumerate() {
        check(sheet, it, at < finite || !lasting, || Difference {
            expected: "a finite number".into(),
            actual: format!("{name} {figure}, and in each of the {} entries after it", logged.len() - at - 1),
            component: Component::Numerics,
            cause: format!(
                "{name} is not finite from step {} to the end of the log: training went on without learning",
                it.step
            ),
        });
    }
    let single = logged.iter().filter(|(_, figure)| !figure.is_finite()).count();
    if single > 0 && !lasting {
        sheet.remark(format!(
            "{name} is not finite in {single} of {} entries, and that is not judged: the log does not say whether these \
             updates were skipped",
            logged.len()
        ));
    }
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
fn gaps(log: &Log, training: &[&Entry], sheet: &mut Sheet) {
    let Some(every) = log.logging_steps.filter(|&every| every <= log.last_step()) else { return };
    let due = |it: &&&Entry| it.step == 1 || it.step.is_multiple_of(every);
    if training.is_empty() || !training.iter().all(|it| due(&it)) {
        return sheet.cannot(
            "training is not logged at multiples of logging_steps, so missing entries are not checked",
        );
    }
    let mut logged = training.iter().filter(|it| it.step % every == 0).peekable();
    for step in (every..=log.last_step()).step_by(usize::try_from(every).unwrap_or(usize::MAX)) {
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
        let state =
            traintrue_logs::trainer_state::parse(Path::new("s.json"), &state_text(change), false).unwrap();
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

    fn of_script(losses: &[f64], norms: &[f64]) -> Sheet {
        let entry = |(at, loss): (usize, &f64)| {
            let norm = norms.get(at).map(|norm| ("grad_norm".to_owned(), Number(*norm)));
            let figures = [("loss".to_owned(), Number(*loss))].into_iter().chain(norm).collect();
            Entry { line: at as u64 + 1, step: 0, epoch: None, figures }
        };
        let log = Log { entries: losses.iter().enumerate().map(entry).collect(), ..Log::default() };
        let mut sheet = Sheet::default();
        judge(&log, &mut sheet);
        sheet
    }

    const NAN: f64 = f64::NAN;

    #[rstest]
    #[case::finite(&[1.0, 1.0, 1.0], &[], 0)]
    #[case::single(&[1.0, NAN, 1.0, f64::INFINITY, 1.0], &[], 1)]
    #[case::last(&[1.0, NAN, NAN], &[], 1)]
    #[case::scale_is_searched(&[1.0, 1.0, 1.0, 1.0], &[NAN; 4], 1)]
    fn a_script_may_skip_updates(#[case] losses: &[f64], #[case] norms: &[f64], #[case] remarks: usize) {
        let sheet = of_script(losses, norms);
        holds(&sheet);
        assert_eq!(sheet.remarks.len(), remarks, "{:?}", sheet.remarks);
    }

    #[rstest]
    #[case::loss(&[1.0, NAN, NAN, NAN], &[], "found loss NaN, and in each of the 2 entries after it")]
    #[case::never(&[NAN, NAN, NAN], &[], "found loss NaN, and in each of the 2 entries after it")]
    #[case::norm(&[1.0; 4], &[1.0, NAN, NAN, NAN], "found grad_norm NaN, and in each of the 2 entries")]
    fn what_stays_not_finite_breaks(#[case] losses: &[f64], #[case] norms: &[f64], #[case] expected: &str) {
        let found = broke(&of_script(losses, norms));
        assert!(found.contains(expected), "{found}");
    }

    #[test]
    fn a_resumed_run_may_log_again_and_a_counter_that_falls_alone_may_not() {
        let entry = |step, epoch| Entry {
            line: 1,
            step,
            epoch: Some(epoch),
            figures: [("loss".to_owned(), Number(1.0))].into_iter().collect(),
        };
        let entries = vec![entry(2, 0.2), entry(4, 0.4), entry(3, 0.3), entry(4, 0.4)];
        let mut log = Log { counts: Counts::Updates, entries, restarts: vec![2], ..Log::default() };
        let mut sheet = Sheet::default();
        judge(&log, &mut sheet);
        holds(&sheet);
        log.restarts.clear();
        judge(&log, &mut sheet);
        assert!(broke(&sheet).contains("the steps go backwards"));
    }
}
