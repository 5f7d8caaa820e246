//! `artefact/best`: the best evaluation is one of the log, and none is better.

use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::vocabulary::Component;

use super::entry;
use crate::artefact::{Best, Entry, TrainerState};
use crate::finding::{At, Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule};

pub(crate) static RULE: Rule = Rule {
    name: "artefact/best",
    says: "the best metric is a figure of the log, and no checkpoint was better",
    verifies: "best_metric is a figure of an evaluation of the log, of best_global_step and of the checkpoint that is \
               named, where these are given; where it is a loss, no evaluation that could be saved has a lower one; \
               where it is any other figure, it is the lowest or the highest.",
    does_not_verify: "Which way a figure that is no loss is better: that is an argument of the run. That the named \
                      checkpoint is still there.",
    kind: Kind::Artefact,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Artefact,
    needs: &[Fact::Plan],
};

pub(crate) fn judge(state: &TrainerState, best: &Best, sheet: &mut Sheet) {
    let top = || At { event: "state".to_owned(), step: best.step, ..At::default() };
    let named = best.checkpoint.as_deref().and_then(number);
    if let Some((step, named)) = best.step.zip(named) {
        sheet.check_at(step == named, 0, top, || Difference {
            expected: format!("the checkpoint of best_global_step {step}"),
            actual: format!("checkpoint-{named}"),
            component: Component::Checkpoint,
            cause: "the best figure and the best checkpoint are not of one update".into(),
        });
    }
    let of_step = |it: &&Entry| best.step.or(named).is_none_or(|step| it.step == step);
    let found = state.log.iter().filter(of_step).find_map(|it| Some((it, figure(it, best.metric)?)));
    sheet.check_at(found.is_some(), 0, top, || Difference {
        expected: format!("best_metric {} among the evaluations of the log", best.metric),
        actual: "it is not".into(),
        component: Component::Checkpoint,
        cause:
            "the best so far was not kept with the log: a resumed run lost it, or took another figure for it"
                .into(),
    });
    if let Some((at, name)) = found {
        better(state, best.metric, at, name, sheet);
    }
}

/// The number in `.../checkpoint-500`.
fn number(checkpoint: &str) -> Option<u64> {
    checkpoint.rsplit_once("checkpoint-")?.1.trim_end_matches('/').parse().ok()
}

/// The evaluation's figure of that value.
fn figure(it: &Entry, value: f64) -> Option<&str> {
    let mut names = it.figures.iter().filter(|(name, _)| name.starts_with("eval_"));
    names.find(|(_, figure)| figure.0 == value).map(|(name, _)| name.as_str())
}

fn better(state: &TrainerState, best: f64, at: &Entry, name: &str, sheet: &mut Sheet) {
    // Older releases choose among the evaluations that a checkpoint was due at.
    let every = state.save_steps.filter(|every| at.step.is_multiple_of(*every)).unwrap_or(1);
    let others: Vec<(&Entry, f64)> = state
        .log
        .iter()
        .filter(|it| it.step % every == 0)
        .filter_map(|it| Some((it, it.figures.get(name)?.0)))
        .collect();
    let (lower, higher) =
        (others.iter().find(|(_, figure)| *figure < best), others.iter().find(|(_, figure)| *figure > best));
    let loss = name.ends_with("loss");
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
                "the worst is kept for the best: greater_is_better is on for a loss (transformers#31142)"
                    .into()
            } else {
                "a worse checkpoint took the place of the best: the best so far was lost on resuming".into()
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
        let state = TrainerState::parse(Path::new("s.json"), &state_text(change), false).unwrap();
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
    #[case::not_in_the_log(|it: &mut Value| it["best_metric"] = json!(0.25), "best_metric 0.25 among the evaluations of the log")]
    #[case::of_another_step(|it: &mut Value| it["best_global_step"] = json!(5), "expected the checkpoint of best_global_step 5, found checkpoint-10")]
    #[case::worst(|it: &mut Value| {
        (it["best_metric"], it["best_global_step"]) = (json!(2.0), json!(5));
        it["best_model_checkpoint"] = json!("out/checkpoint-5");
    }, "the worst is kept for the best: greater_is_better is on for a loss (transformers#31142)")]
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
