//! The plan's schedule, warm-up and decay, as a scheduler of burn's: it counts how often it is stepped, and nothing else.

use burn::lr_scheduler::LrScheduler;
use burn::optim::LearningRate;
use burn::tensor::backend::Backend;
use traintrue_protocol::plan::{Plan, Schedule, ScheduleName};

/// A schedule over updates, whose first step gives its first value, as burn's own do.
#[derive(Clone)]
pub struct Rates {
    peak: f64,
    schedule: Schedule,
    updates: u64,
    taken: usize,
}

impl Rates {
    /// The plan's schedule, for epochs of so many updates.
    pub fn of(plan: &Plan, updates_per_epoch: u64) -> Self {
        let schedule = plan.train.schedule.clone();
        let updates = schedule.updates.unwrap_or(updates_per_epoch * plan.data.epochs);
        Self { peak: plan.train.optimizer.lr, schedule, updates, taken: 0 }
    }

    fn multiplier(&self) -> f64 {
        let (taken, warmup) = (self.taken as u64, self.schedule.warmup);
        if taken < warmup {
            return taken as f64 / warmup as f64;
        }
        let fall = self.updates.saturating_sub(warmup).max(1);
        let progress = ((taken - warmup) as f64 / fall as f64).min(1.0);
        match self.schedule.name {
            ScheduleName::Constant => 1.0,
            ScheduleName::Linear => 1.0 - progress,
            ScheduleName::Cosine => 0.5 * (1.0 + (std::f64::consts::PI * progress).cos()),
        }
    }
}

impl LrScheduler for Rates {
    type Record<B: Backend> = usize;

    fn step(&mut self) -> LearningRate {
        let rate = self.peak * self.multiplier();
        self.taken += 1;
        rate
    }

    fn to_record<B: Backend>(&self) -> usize {
        self.taken
    }

    fn load_record<B: Backend>(self, taken: usize) -> Self {
        Self { taken, ..self }
    }
}
