//! Whoever looks on while the loop trains. An observer is handed what the loop has in hand, and should keep none of it.

use burn::tensor::Tensor;

use crate::data::Batch;
use crate::engine::{Engine, Inner};
use crate::model::Parameters;
use crate::window::GradientSet;

/// What a forward began with, and what it gave.
pub struct Forwarded<'a, E: Engine> {
    /// The batch.
    pub batch: &'a Batch,
    /// Its loss, scaled, with its graph.
    pub loss: &'a Tensor<E, 1>,
    /// The parameters as this forward's graph knows them.
    pub weights: &'a [Tensor<E, 2>],
}

/// Looks on. What it is not interested in it lets pass.
pub trait Observer<E: Engine> {
    /// A forward was made, and its loss is about to be differentiated.
    fn forwarded(&mut self, _forwarded: &Forwarded<E>) {}
    /// An update was made with these gradients; the first is 1.
    fn updated(&mut self, _step: u64, _gradients: &GradientSet<Inner<E>>) {}
    /// An evaluation gave each batch's summed loss and weight.
    fn evaluated(&mut self, _batches: &[(f64, u64)]) {}
    /// An epoch came to its end with these parameters.
    fn epoch_ended(&mut self, _parameters: &Parameters<Inner<E>>) {}
    /// A model with these parameters is about to be unloaded.
    fn unloading(&mut self, _parameters: &Parameters<Inner<E>>) {}
}
