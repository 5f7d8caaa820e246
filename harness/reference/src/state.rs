//! Everything that training changes: what a checkpoint must hold for the next update to be the same.

use traintrue::trace::event::Cursor;

use crate::engine::{Engine, Inner};
use crate::model::{Dropout, Model, Parameters};
use crate::optimizer::AdamW;
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
