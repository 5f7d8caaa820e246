//! Training arguments from the command line: the run itself keeps them in a pickle, which is never opened.

use serde_json::json;
use traintrue_logs::Log;
use traintrue_protocol::plan::{Plan, SCHEMA, ScheduleName};

use super::error::ArtefactError;

/// The most micro-batches per epoch. Each becomes a sample of the plan that the learning rates are derived from.
pub const MICRO_BATCHES_MOST: u64 = 10_000_000;

/// What the command line says about the run that left the files.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Given {
    /// The learning-rate schedule. Without it, learning rates are not judged.
    pub curve: Option<Curve>,
    /// Micro-batches per epoch.
    pub micro_batches: Option<u64>,
    /// Micro-batches per update.
    pub accumulation: Option<u64>,
    /// Epochs that were requested; may be a fraction.
    pub epochs: Option<f64>,
}

/// A schedule in closed form.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Curve {
    /// The highest rate.
    pub lr: f64,
    /// The form after the warm-up.
    pub schedule: ScheduleName,
    /// Updates of the warm-up.
    pub warmup: u64,
    /// Total updates. Defaults to `max_steps`.
    pub updates: Option<u64>,
}

/// The schedule of a plan whose learning rates are not judged.
const NO_CURVE: Curve = Curve { lr: 1.0, schedule: ScheduleName::Constant, warmup: 0, updates: None };

impl Given {
    /// The schedule to compare the log with, and its total updates. None if no schedule is given, or if neither it nor
    /// the state gives the total.
    pub(crate) fn curve(&self, state: &Log) -> Option<(Curve, u64)> {
        self.curve.and_then(|curve| Some((curve, curve.updates.or(state.max_steps)?)))
    }

    /// The plan that a run with these arguments would have, as far as learning rates depend on it. It has one empty
    /// sample per micro-batch.
    pub(crate) fn plan(&self, state: &Log) -> Result<Plan, ArtefactError> {
        let (curve, updates) = self.curve(state).unwrap_or((NO_CURVE, 1));
        let epochs = state.num_train_epochs.filter(|it| (1..=updates).contains(it)).unwrap_or(1);
        let micro_batches =
            self.micro_batches.unwrap_or(updates / epochs).clamp(1, MICRO_BATCHES_MOST) as usize;
        let plan = json!({
            "schema": SCHEMA, "scenario": "", "run": "", "seed": 0,
            "data": {
                "samples": vec![[0_u32; 0]; micro_batches],
                "tokens": {"pad": 3, "bos": 1, "eos": 2, "vocabulary": 4},
                "batch": 1, "epochs": epochs, "shuffle": true, "max_length": 2, "drop_last": false,
                "padding": {"policy": "longest", "side": "right", "multiple_of": 1},
            },
            "train": {
                "accumulation": self.accumulation.unwrap_or(1),
                "optimizer": {"name": "adamw", "lr": curve.lr, "betas": [0.9, 0.999], "eps": 1e-8, "decay": 0.0},
                "clip": null, "dropout": 0.0,
                "schedule": {"name": curve.schedule, "warmup": curve.warmup, "updates": updates},
            },
            "model": {"size": "tiny"},
        });
        Plan::parse(&plan.to_string()).map_err(ArtefactError::Given)
    }
}
