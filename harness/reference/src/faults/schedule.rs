//! Faults of the learning-rate schedule: a wrong total, or steps at the wrong time.

use super::Fault;
use crate::engine::Engine;
use crate::schedule::{multiplier, total};

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("total-not-divided", |parts| {
            parts.schedule.total = |plan, _, per_epoch| per_epoch * plan.data.epochs;
        }),
        ("total-divided-twice", |parts| {
            parts.schedule.total =
                |plan, contract, per_epoch| total(plan, contract, per_epoch) / plan.train.accumulation;
        }),
        ("schedule-per-micro-batch", |parts| {
            parts.unchanged.steps_per_update = |_| 0;
            parts.unchanged.steps_per_micro_batch = |_| 1;
        }),
        ("schedule-times-world", |parts| parts.unchanged.steps_per_update = |train| train.world),
        ("warmup-off-by-one", |parts| {
            parts.schedule.multiplier = |schedule, x, total| {
                let in_warmup = x < schedule.warmup as f64;
                multiplier(schedule, if in_warmup { x - 1.0 } else { x }, total)
            };
        }),
        ("total-from-a-ceil", |parts| {
            parts.schedule.total =
                |plan, _, per_epoch| per_epoch.div_ceil(plan.train.accumulation) * plan.data.epochs;
        }),
    ]
}
