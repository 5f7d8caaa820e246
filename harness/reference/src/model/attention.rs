//! Attention weights under a mask. A fully masked row has weights of 0, where the usual softmax gives NaN or attends to
//! padding.

use burn::tensor::{Bool, Tensor, TensorData};

use crate::data::Rows;
use crate::engine::Engine;

/// Added to a forbidden score.
const FORBIDDEN: f32 = -1e30;

/// Which position may attend to which, `[rows, 1, width, width]`, built once per forward pass.
pub struct Mask<E: Engine> {
    /// 0 where attending is allowed, far below any score where it is not.
    added: Tensor<E, 4>,
}

impl<E: Engine> Mask<E> {
    /// The mask of some rows; `allows` says whether the position `from` of a row may attend to `to`.
    pub fn new(
        rows: &Rows,
        allows: fn(real: &[bool], from: usize, to: usize) -> bool,
        device: &E::Device,
    ) -> Self {
        let mut added = Vec::with_capacity(rows.count * rows.width * rows.width);
        for row in rows.real.chunks_exact(rows.width) {
            for from in 0..rows.width {
                added.extend((0..rows.width).map(|to| if allows(row, from, to) { 0.0 } else { FORBIDDEN }));
            }
        }
        let extents = [rows.count, 1, rows.width, rows.width];
        Self { added: Tensor::from_data(TensorData::new(added, extents), device) }
    }

    /// The mask of the queries `from..to` on the keys up to `to`.
    pub fn part(&self, from: usize, to: usize) -> Self {
        let [rows, ..] = self.added.dims();
        Self { added: self.added.clone().slice([0..rows, 0..1, from..to, 0..to]) }
    }

    /// Where attending is forbidden.
    pub fn forbidden(&self) -> Tensor<E, 4, Bool> {
        self.added.clone().lower_elem(0.0)
    }
}

/// A token attends to the tokens before it and to itself.
pub fn causal_over_tokens(real: &[bool], from: usize, to: usize) -> bool {
    to <= from && real[to]
}

/// Softmax over the allowed positions. The largest allowed score is subtracted first. A row without one has all its scores
/// far below what is subtracted, so its sum is 0 and its weights are 0.
pub fn masked_softmax<E: Engine>(scores: Tensor<E, 4>, mask: &Mask<E>) -> Tensor<E, 4> {
    let scores = scores + mask.added.clone();
    let largest = scores.clone().detach().max_dim(3).clamp_min(FORBIDDEN / 2.0);
    let weights = (scores - largest).exp();
    let sum = weights.clone().sum_dim(3);
    let none = sum.clone().detach().equal_elem(0.0).float();
    weights * (sum + none).recip()
}

/// Fills the forbidden places with `value` and takes an ordinary softmax.
pub fn fill_then_softmax<E: Engine>(scores: Tensor<E, 4>, mask: &Mask<E>, value: f32) -> Tensor<E, 4> {
    burn::tensor::activation::softmax(scores.mask_fill(mask.forbidden(), value), 3)
}
