//! The pointwise layers: linear with its adapter, layer norm, GELU.

use burn::tensor::{Tensor, activation};

use super::build::{Linear, Norm};
use crate::engine::Engine;

/// Added to a variance before its root: PyTorch's default.
const NORM_EPS: f64 = 1e-5;

/// `x W + b + scale (x A) B` over rows `[n, in] -> [n, out]` (LoRA, arXiv 2106.09685).
pub fn linear<E: Engine>(
    x: Tensor<E, 2>,
    layer: &Linear,
    weights: &[Tensor<E, 2>],
    scale: f64,
) -> Tensor<E, 2> {
    let y = x.clone().matmul(weights[layer.weight].clone()) + weights[layer.bias].clone();
    match layer.adapter {
        Some((a, b)) => y + x.matmul(weights[a].clone()).matmul(weights[b].clone()) * scale,
        None => y,
    }
}

/// Layer norm over the last dimension of `[n, d]`.
pub fn norm<E: Engine>(x: Tensor<E, 2>, layer: &Norm, weights: &[Tensor<E, 2>]) -> Tensor<E, 2> {
    let centred = x.clone() - x.mean_dim(1);
    let variance = (centred.clone() * centred.clone()).mean_dim(1);
    let unit = centred / (variance + NORM_EPS).sqrt();
    unit * weights[layer.weight].clone() + weights[layer.bias].clone()
}

/// The Gaussian error linear unit.
pub fn gelu<E: Engine>(x: Tensor<E, 2>) -> Tensor<E, 2> {
    activation::gelu(x)
}
