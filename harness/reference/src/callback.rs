//! Callbacks, as in Hugging Face's `TrainerCallback`: the loop calls them at fixed points of training.
//!
//! The right trainer has none. The leaks of `faults/leaks.rs` are callbacks that keep what they are given.

use burn::tensor::Tensor;

use crate::data::Batch;
use crate::engine::{Engine, Inner};
use crate::model::Parameters;
use crate::window::GradientSet;

/// One forward pass of training: its inputs and its loss.
pub struct Forwarded<'a, E: Engine> {
    /// The micro-batch.
    pub batch: &'a Batch,
    /// The scaled loss, with its graph.
    pub loss: &'a Tensor<E, 1>,
    /// The parameters as leaves of the loss's graph.
    pub weights: &'a [Tensor<E, 2>],
}

/// Is called while the loop trains. Every method does nothing by default.
pub trait Callback<E: Engine> {
    /// After a forward pass, before its loss is differentiated.
    fn forwarded(&mut self, _forwarded: &Forwarded<E>) {}
    /// After an update with these clipped gradients; the first update is 1.
    fn updated(&mut self, _step: u64, _gradients: &GradientSet<Inner<E>>) {}
    /// After an evaluation, with the summed loss and the weight of each batch.
    fn evaluated(&mut self, _batches: &[(f64, u64)]) {}
    /// At the end of an epoch.
    fn epoch_ended(&mut self, _parameters: &Parameters<Inner<E>>) {}
    /// Before a model with these parameters is unloaded.
    fn unloading(&mut self, _parameters: &Parameters<Inner<E>>) {}
}
