//! The rate of each update: warm-up, then constant, a line or half a cosine.

use std::f64::consts::PI;

use traintrue_protocol::Plan;
use traintrue_protocol::contract::{Contract, FirstLr, Tail};
use traintrue_protocol::plan::ScheduleName;

/// Updates of a whole run, for epochs of so many micro-batches.
pub fn updates(plan: &Plan, contract: &Contract, micro_batches: u64) -> u64 {
    let (window, epochs) = (plan.train.accumulation, plan.data.epochs);
    plan.train.schedule.updates.unwrap_or(match contract.tail {
        Tail::Flush => micro_batches.div_ceil(window) * epochs,
        Tail::Drop => micro_batches / window * epochs,
        Tail::Carry => micro_batches * epochs / window,
    })
}

/// The rate of the update after `done` updates, of `updates` in all.
pub fn rate(plan: &Plan, contract: &Contract, updates: u64, done: u64) -> f64 {
    let (peak, schedule) = (plan.train.optimizer.lr, &plan.train.schedule);
    let taken = done + u64::from(contract.first_lr == FirstLr::Nonzero);
    if taken < schedule.warmup {
        return peak * taken as f64 / schedule.warmup as f64;
    }
    let fall = updates.saturating_sub(schedule.warmup).max(1);
    let progress = ((taken - schedule.warmup) as f64 / fall as f64).min(1.0);
    peak * match schedule.name {
        ScheduleName::Constant => 1.0,
        ScheduleName::Linear => 1.0 - progress,
        ScheduleName::Cosine => 0.5 * (1.0 + (PI * progress).cos()),
    }
}
