//! Dropout from an explicit random stream, whose position is part of a checkpoint.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand::RngCore;
use rand_chacha::ChaCha8Rng;

/// Drops units at a rate, while it is active.
pub struct Dropout {
    /// The probability that a unit is dropped.
    pub rate: f64,
    /// On in training, off in evaluation.
    pub active: bool,
    /// The stream that the masks are drawn from.
    pub rng: ChaCha8Rng,
    /// Units dropped since the trainer started.
    pub dropped: u64,
}

impl Dropout {
    /// Drops units of `x` and scales the rest by `1 / (1 - rate)`.
    pub fn apply<B: Backend, const D: usize>(&mut self, x: Tensor<B, D>) -> Tensor<B, D> {
        if !self.active || self.rate == 0.0 {
            return x;
        }
        let kept = (1.0 / (1.0 - self.rate)) as f32;
        let threshold = (self.rate * 4_294_967_296.0) as u32;
        let mask: Vec<f32> = (0..x.shape().num_elements())
            .map(|_| {
                let keep = self.rng.next_u32() >= threshold;
                self.dropped += u64::from(!keep);
                if keep { kept } else { 0.0 }
            })
            .collect();
        let mask = Tensor::from_data(TensorData::new(mask, x.shape()), &x.device());
        x * mask
    }
}
