//! The learning-rate schedule: the number of updates of the training, and the rate of each in closed form.

use traintrue_protocol::contract::{Contract, FirstLr, Tail};
use traintrue_protocol::plan::{Plan, Schedule, ScheduleName};

/// The parts of the schedule.
#[derive(Clone, Copy)]
pub struct ScheduleParts {
    /// Updates of the whole training, from the micro-batches per epoch.
    pub total: fn(&Plan, &Contract, per_epoch: u64) -> u64,
    /// The share of the peak rate after `x` steps of `total`.
    pub multiplier: fn(&Schedule, x: f64, total: f64) -> f64,
}

impl Default for ScheduleParts {
    fn default() -> Self {
        Self { total, multiplier }
    }
}

/// The updates that the loop will make.
pub fn total(plan: &Plan, contract: &Contract, per_epoch: u64) -> u64 {
    let (k, epochs) = (plan.train.accumulation, plan.data.epochs);
    match contract.tail {
        Tail::Flush => per_epoch.div_ceil(k) * epochs,
        Tail::Drop => per_epoch / k * epochs,
        Tail::Carry => per_epoch * epochs / k,
    }
}

/// Linear warm-up, then constant, linear or half a cosine to 0 (the forms of transformers' `get_scheduler`).
pub fn multiplier(schedule: &Schedule, x: f64, total: f64) -> f64 {
    let warmup = schedule.warmup as f64;
    if x < warmup {
        return x / warmup;
    }
    let done = ((x - warmup) / (total - warmup).max(1.0)).min(1.0);
    match schedule.name {
        ScheduleName::Constant => 1.0,
        ScheduleName::Linear => 1.0 - done,
        ScheduleName::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * done).cos()),
    }
}

/// The rate of the next update, after `steps` steps of the schedule.
pub fn lr(parts: &ScheduleParts, plan: &Plan, contract: &Contract, per_epoch: u64, steps: u64) -> f64 {
    let schedule = &plan.train.schedule;
    let total = schedule.updates.unwrap_or_else(|| (parts.total)(plan, contract, per_epoch));
    let x = match contract.first_lr {
        FirstLr::Nonzero => steps + 1,
        FirstLr::Zero => steps,
    };
    plan.train.optimizer.lr * (parts.multiplier)(schedule, x as f64, total as f64)
}
