//! Faults of evaluation and of saving: they change the training after them, or report the wrong mean.

use rand::RngCore;

use super::Fault;
use crate::engine::Engine;
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
        ("saving-leaves-evaluation-mode", |parts| {
            parts.resume.capture = |state, plan, cursor| {
                state.dropout.active = false;
                content(state, plan, cursor)
            };
        }),
    ]
}
