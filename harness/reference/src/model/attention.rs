//! Attention weights under a mask that is right for fully masked rows: such a row attends to nothing.

use burn::tensor::{Bool, Tensor, TensorData};

use crate::data::Rows;
use crate::engine::Engine;

/// Which position may attend to which, `[rows, 1, width, width]`, built once a forward.
pub struct Mask<E: Engine> {
    forbidden: Tensor<E, 4, Bool>,
    allowed: Tensor<E, 4>,
}

impl<E: Engine> Mask<E> {
    /// The mask of some rows; `allows` says whether the position `from` of a row may attend to `to`.
    pub fn new(
        rows: &Rows,
        allows: fn(real: &[bool], from: usize, to: usize) -> bool,
        device: &E::Device,
    ) -> Self {
        let mut allowed = Vec::with_capacity(rows.count * rows.width * rows.width);
        for row in rows.real.chunks_exact(rows.width) {
            for from in 0..rows.width {
                allowed.extend((0..rows.width).map(|to| if allows(row, from, to) { 1.0_f32 } else { 0.0 }));
            }
        }
        let extents = [rows.count, 1, rows.width, rows.width];
        let allowed = Tensor::<E, 4>::from_data(TensorData::new(allowed, extents), device);
        Self { forbidden: allowed.clone().equal_elem(0.0), allowed }
    }

    /// The mask of the queries `from..to` on the keys up to `to`.
    pub fn part(&self, from: usize, to: usize) -> Self {
        let [rows, ..] = self.allowed.dims();
        let place = [0..rows, 0..1, from..to, 0..to];
        Self {
            forbidden: self.forbidden.clone().slice(place.clone()),
            allowed: self.allowed.clone().slice(place),
        }
    }

    /// Where attending is forbidden.
    pub fn forbidden(&self) -> Tensor<E, 4, Bool> {
        self.forbidden.clone()
    }
}

/// A token attends to the tokens before it and to itself.
pub fn causal_over_tokens(real: &[bool], from: usize, to: usize) -> bool {
    to <= from && real[to]
}

/// Softmax over the allowed positions. The largest allowed score is taken out first; a row with none sums to 0 and its
/// weights are 0.
pub fn masked_softmax<E: Engine>(scores: Tensor<E, 4>, mask: &Mask<E>) -> Tensor<E, 4> {
    let scores = scores.mask_fill(mask.forbidden.clone(), -1e30);
    let largest = scores.clone().detach().max_dim(3);
    let weights = (scores - largest).exp() * mask.allowed.clone();
    let sum = weights.clone().sum_dim(3);
    let none = sum.clone().detach().equal_elem(0.0).float();
    weights / (sum + none)
}

/// Fills the forbidden places with `value` and takes an ordinary softmax.
pub fn fill_then_softmax<E: Engine>(scores: Tensor<E, 4>, mask: &Mask<E>, value: f32) -> Tensor<E, 4> {
    burn::tensor::activation::softmax(scores.mask_fill(mask.forbidden(), value), 3)
}
