//! `artefact/best`: the best evaluation is in the log, and none is better.

use traintrue_logs::{Best, Entry, Log};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::vocabulary::Component;

use super::entry;
use crate::finding::{At, Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule};

pub(crate) static RULE: Rule = Rule {
    name: "artefact/best",
    says: "best_metric is in the log, and no checkpoint is better",
    verifies: "best_metric is a value of an evaluation in the log, at best_global_step and at the named checkpoint if \
               these are given. That checkpoint is one that save_steps saves. If it is a loss, no evaluation that could \
               be saved has a lower one. Any other metric is the lowest or the highest.",
    does_not_verify: "Which direction is better for a metric that is not a loss: that is a training argument. That the \
                      named checkpoint still exists.",
    kind: Kind::Artefact,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Artefact,
    needs: &[Fact::Plan],
};

pub(crate) fn judge(state: &Log, best: &Best, sheet: &mut Sheet) {
    let top = || At { event: "state".to_owned(), step: best.step, ..At::default() };
    let named = best.checkpoint.as_deref().and_then(number);
    if let Some((step, named)) = best.step.zip(named) {
        sheet.check_at(step == named, 0, top, || Difference {
            expected: format!("the checkpoint of best_global_step {step}"),
            actual: format!("checkpoint-{named}"),
            component: Component::Checkpoint,
            cause: if step == 0 {
                "best_global_step is 0, where nothing was trained: it was not set when the best was found, or a resumed run \
                 began it anew"
            } else {
                "best_global_step and best_model_checkpoint name different updates"
            }
            .into(),
        });
    }
    let of_step = |it: &&Entry| best.step.or(named).is_none_or(|step| it.step == step);
    let found = state.entries.iter().filter(of_step).find_map(|it| Some((it, it.evaluated(best.metric)?)));
    let elsewhere = state.entries.iter().find(|it| it.evaluated(best.metric).is_some());
    sheet.check_at(found.is_some(), 0, top, || Difference {
        expected: format!("best_metric {} among the evaluations of the log", best.metric),
        actual: "no evaluation with this value".into(),
        component: Component::Checkpoint,
        cause: match best.step.zip(elsewhere) {
            Some((step, other)) => format!("best_global_step is {step}, and the value is of update {}", other.step),
            None => {
                "no logged evaluation has this value: a resumed run lost the best metric, or compares another one".into()
            }
        },
    });
    if let Some((at, name)) = found {
        saved(state, named, at, sheet);
        better(state, best.metric, at, name, sheet);
    }
}

/// The number in `.../checkpoint-500`.
fn number(checkpoint: &str) -> Option<u64> {
    checkpoint.rsplit_once("checkpoint-")?.1.trim_end_matches('/').parse().ok()
}

/// Whether a checkpoint was saved at the best evaluation. That the run saves every `save_steps` updates, and not once per
/// epoch or at each best, shows in the place of this state itself.
fn saved(state: &Log, named: Option<u64>, at: &Entry, sheet: &mut Sheet) {
    let (Some(every), Some(here), Some(named)) = (state.save_steps, state.global_step, named) else { return };
    let of_an_epoch = |epoch: Option<f64>| epoch.is_none_or(|epoch| epoch.fract() == 0.0);
    let by_steps = here.is_multiple_of(every) && named < here;
    if !by_steps || of_an_epoch(state.epoch) || of_an_epoch(at.epoch) || state.max_steps == Some(named) {
        return;
    }
    sheet.check_at(named.is_multiple_of(every), at.line, || entry(named), || Difference {
        expected: format!("a checkpoint of a multiple of save_steps {every}"),
        actual: format!("checkpoint-{named}"),
        component: Component::Checkpoint,
        cause: "the best model was evaluated and never saved: the run evaluates more often than it saves, and \
                load_best_model_at_end has nothing to load"
            .into(),
    });
}

fn better(state: &Log, best: f64, at: &Entry, name: &str, sheet: &mut Sheet) {
    // Older releases choose only among evaluations at which a checkpoint was due.
    let every = state.save_steps.filter(|every| at.step.is_multiple_of(*every)).unwrap_or(1);
    let others: Vec<(&Entry, f64)> = state
        .entries
        .iter()
        .filter(|it| it.step % every == 0)
        .filter_map(|it| Some((it, it.figures.get(name)?.0)))
        .collect();
    let (lower, higher) =
        (others.iter().find(|(_, figure)| *figure < best), others.iter().find(|(_, figure)| *figure > best));
    let loss = name.ends_with("loss");
    // Without knowing the direction, only a value that is neither the lowest nor the highest is wrong.
    let wrong = if loss { lower } else { lower.and(higher) };
    sheet.check_at(
        wrong.is_none(),
        at.line,
        || entry(at.step),
        || Difference {
            expected: if loss {
                format!("the lowest {name}")
            } else {
                format!("the lowest or the highest {name}")
            },
            actual: match wrong {
                Some((other, figure)) => {
                    format!("{name} {best} at step {}, and {figure} at step {}", at.step, other.step)
                }
                None => String::new(),
            },
            component: Component::Checkpoint,
            cause: if loss && higher.is_none() && others.len() > 1 {
                "the highest loss is kept as the best: greater_is_better is on for a loss (transformers#31142)"
                    .into()
            } else {
                "a worse checkpoint replaced the best one: check whether a resume resets best_metric".into()
            },
        },
    );
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
        judge(&state, state.best.as_ref().unwrap(), &mut sheet);
        sheet
    }

    // Evaluations: loss 2 after update 5, loss 1 after update 10.
    #[rstest]
    #[case(|_: &mut Value| {})]
    #[case::older_release(|it: &mut Value| { it.as_object_mut().unwrap().remove("best_global_step"); })]
    #[case::better_but_not_saved(|it: &mut Value| {
        (it["save_steps"], it["log_history"][5]["eval_loss"]) = (json!(10), json!(0.5));
    })]
    #[case::accuracy(|it: &mut Value| {
        (it["log_history"][5]["eval_acc"], it["log_history"][11]["eval_acc"]) = (json!(0.5), json!(0.75));
        it["best_metric"] = json!(0.75);
    })]
    fn a_best_that_is_one_holds(#[case] change: fn(&mut Value)) {
        holds(&judged(change));
    }

    #[rstest]
    #[case::not_in_the_log(|it: &mut Value| it["best_metric"] = json!(0.25), "best_metric 0.25 among the evaluations \
        of the log")]
    #[case::of_another_step(|it: &mut Value| it["best_global_step"] = json!(5), "expected the checkpoint of \
        best_global_step 5, found checkpoint-10")]
    #[case::never_saved(|it: &mut Value| {
        (it["best_metric"], it["best_global_step"]) = (json!(0.5), json!(8));
        (it["best_model_checkpoint"], it["save_steps"]) = (json!("out/checkpoint-8"), json!(3));
        (it["global_step"], it["epoch"]) = (json!(9), json!(1.8));
        let log = it["log_history"].as_array_mut().unwrap();
        log.truncate(10);
        log.insert(9, json!({"step": 8, "epoch": 1.6, "eval_loss": 0.5}));
    }, "expected a checkpoint of a multiple of save_steps 3, found checkpoint-8: the best model was evaluated and never \
        saved")]
    #[case::worst(|it: &mut Value| {
        (it["best_metric"], it["best_global_step"]) = (json!(2.0), json!(5));
        it["best_model_checkpoint"] = json!("out/checkpoint-5");
    }, "the highest loss is kept as the best: greater_is_better is on for a loss (transformers#31142)")]
    #[case::neither(|it: &mut Value| {
        let log = it["log_history"].as_array_mut().unwrap();
        log.push(json!({"step": 10, "eval_acc": 0.9}));
        log.push(json!({"step": 10, "eval_acc": 0.1}));
        log.push(json!({"step": 10, "eval_acc": 0.5}));
        it["best_metric"] = json!(0.5);
    }, "expected the lowest or the highest eval_acc")]
    fn a_best_that_is_none_breaks(#[case] change: fn(&mut Value), #[case] expected: &str) {
        let found = broke(&judged(change));
        assert!(found.contains(expected), "{found}");
    }
}
