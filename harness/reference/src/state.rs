//! Everything that training changes, and so everything that a checkpoint must restore.

use traintrue_protocol::plan::Plan;
use traintrue_protocol::trace::event::Cursor;

use crate::engine::{Engine, Inner};
use crate::model::{Dropout, Model, Parameter, Parameters, SizeError};
use crate::optimizer::AdamW;
use crate::rng;
use crate::window::Window;

/// The state of a run.
pub struct State<E: Engine> {
    /// The places of the model's tensors.
    pub model: Model,
    /// All tensors of the model.
    pub parameters: Parameters<Inner<E>>,
    /// The moments of the parameters that learn.
    pub optimizer: AdamW<Inner<E>>,
    /// Updates done.
    pub step: u64,
    /// Steps that the schedule has taken.
    pub schedule_step: u64,
    /// The next micro-batch.
    pub cursor: Cursor,
    /// The epoch whose order the sampler draws. Separate from the cursor, because a sampler has a state of its own.
    pub sampler_epoch: u64,
    /// The open gradient-accumulation window.
    pub window: Window<Inner<E>>,
    /// Dropout and its random stream.
    pub dropout: Dropout,
    /// The best evaluation so far.
    pub best: Option<f64>,
}

impl<E: Engine> State<E> {
    /// The state at the beginning of a plan, with weights of this seed, in a rank that draws its dropout as `draws_as`
    /// does. The optimizer gets the parameters that `optimizes` picks.
    pub fn fresh(
        plan: &Plan,
        weights_seed: u64,
        draws_as: u64,
        optimizes: fn(&Parameter<Inner<E>>) -> bool,
        device: &E::Device,
    ) -> Result<Self, SizeError> {
        let (model, parameters) = Model::build(plan, weights_seed, device)?;
        let dropout = Dropout::new(plan.train.dropout, rng::dropout(plan.seed, draws_as));
        Ok(Self {
            model,
            optimizer: AdamW::over(&parameters, optimizes),
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
