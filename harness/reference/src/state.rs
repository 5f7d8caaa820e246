//! Everything that training changes: what a checkpoint must hold for the next update to be the same.

use traintrue_protocol::plan::Plan;
use traintrue_protocol::trace::event::Cursor;

use crate::engine::{Engine, Inner};
use crate::model::{Dropout, Model, Parameters, SizeError};
use crate::optimizer::AdamW;
use crate::parts::Parts;
use crate::rng;
use crate::window::Window;

/// The state of a run.
pub struct State<E: Engine> {
    /// The structure of the model.
    pub model: Model,
    /// Its tensors.
    pub parameters: Parameters<Inner<E>>,
    /// Moments.
    pub optimizer: AdamW<Inner<E>>,
    /// Updates done.
    pub step: u64,
    /// Steps that the schedule has taken.
    pub schedule_step: u64,
    /// Where the data stands.
    pub cursor: Cursor,
    /// The epoch whose order the sampler gives.
    pub sampler_epoch: u64,
    /// The open window.
    pub window: Window<Inner<E>>,
    /// Dropout and its random stream.
    pub dropout: Dropout,
    /// The best evaluation so far.
    pub best: Option<f64>,
}

impl<E: Engine> State<E> {
    /// The state at the beginning of a plan.
    pub fn fresh(plan: &Plan, parts: &Parts<E>, device: &E::Device) -> Result<Self, SizeError> {
        let (model, parameters) = Model::build(plan, device)?;
        let dropout =
            Dropout { rate: plan.train.dropout, active: true, rng: rng::dropout(plan.seed), dropped: 0 };
        Ok(Self {
            model,
            optimizer: AdamW::over(&parameters, parts.update.optimizes),
            parameters,
            step: 0,
            schedule_step: 0,
            cursor: Cursor { epoch: 0, micro_batches: 0 },
            sampler_epoch: 0,
            window: Window::empty(),
            dropout,
            best: None,
        })
    }
}
