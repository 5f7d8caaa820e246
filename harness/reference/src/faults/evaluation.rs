//! Faults of evaluation and of saving: they change the training after them, or report the wrong mean.

use rand::RngCore;

use super::Fault;
use crate::engine::Engine;
use crate::evaluation::{batches, in_batches};
use crate::resume::content;
use crate::window::one_over;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("dropout-stays-off", |parts| parts.evaluation.end = |_| {}),
        ("dropout-stays-on", |parts| parts.evaluation.begin = |_| {}),
        ("evaluation-draws-from-training", |parts| {
            parts.evaluation.begin = |dropout| {
                dropout.active = false;
                dropout.rng.next_u32();
            };
        }),
        ("evaluation-averages-batches", |parts| {
            parts.evaluation.metric = |batches| {
                let means = batches.iter().map(|(sum, weight)| sum * one_over(*weight as f64));
                means.sum::<f64>() / batches.len() as f64
            };
        }),
        ("evaluation-loses-its-last-batch", |parts| {
            parts.evaluation.batches = |collate, plan| {
                let mut batches = batches(collate, plan);
                batches.pop();
                batches
            };
        }),
        ("evaluation-repeats-its-first-batch", |parts| {
            parts.evaluation.batches = |collate, plan| {
                let mut batches = batches(collate, plan);
                batches.extend(batches.first().cloned());
                batches
            };
        }),
        ("evaluates-the-training-set", |parts| {
            parts.evaluation.batches = |collate, plan| in_batches(collate, plan, &plan.data.samples);
        }),
        ("evaluation-one-update-late", |parts| {
            parts.evaluation.is_due = |step, every| step > every && (step - 1).is_multiple_of(every);
        }),
        ("first-evaluation-left-out", |parts| {
            parts.evaluation.is_due = |step, every| step > every && step.is_multiple_of(every);
        }),
        ("best-is-the-highest", |parts| {
            parts.evaluation.best = |before, newest| before.map_or(newest, |before| before.max(newest));
        }),
        ("best-is-the-last", |parts| parts.evaluation.best = |_, newest| newest),
        ("saving-leaves-evaluation-mode", |parts| {
            parts.resume.capture = |state, plan, cursor| {
                state.dropout.active = false;
                content(state, plan, cursor)
            };
        }),
    ]
}
