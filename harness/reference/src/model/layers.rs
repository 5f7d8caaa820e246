//! The pointwise layers: linear with its adapter, layer norm, GELU.

use std::f64::consts::{FRAC_1_SQRT_2, FRAC_2_SQRT_PI};

use burn::tensor::Tensor;

use super::build::{Linear, Norm};
use crate::engine::Engine;

/// Added to a variance before its root: PyTorch's default.
pub const NORM_EPS: f64 = 1e-5;

/// The product of two matrices.
pub type Product<E> = fn(Tensor<E, 2>, Tensor<E, 2>) -> Tensor<E, 2>;

/// A norm of `[n, d]`, with all weights.
pub type Normalise<E> = fn(Tensor<E, 2>, &Norm, &[Tensor<E, 2>]) -> Tensor<E, 2>;

/// `x W + b + scale (x A) B` over rows `[n, in] -> [n, out]` (LoRA, arXiv 2106.09685).
pub fn linear<E: Engine>(
    x: Tensor<E, 2>,
    layer: &Linear,
    weights: &[Tensor<E, 2>],
    scale: f64,
    product: Product<E>,
) -> Tensor<E, 2> {
    let y = product(x.clone(), weights[layer.weight].clone()) + weights[layer.bias].clone();
    match layer.adapter {
        Some((a, b)) => y + product(product(x, weights[a].clone()) * scale, weights[b].clone()),
        None => y,
    }
}

/// Layer norm over the last dimension of `[n, d]`.
pub fn norm<E: Engine>(x: Tensor<E, 2>, layer: &Norm, weights: &[Tensor<E, 2>]) -> Tensor<E, 2> {
    let centred = x.clone() - x.mean_dim(1);
    let variance = (centred.clone() * centred.clone()).mean_dim(1);
    let unit = centred * (variance + NORM_EPS).sqrt().recip();
    unit * weights[layer.weight].clone() + weights[layer.bias].clone()
}

/// The Gaussian error linear unit, `x P(x)` under the normal distribution (arXiv 1606.08415).
///
/// burn's own GELU has the gradient of an approximation. This one supplies the exact gradient: the graph sees the tangent
/// at `x`.
pub fn gelu<E: Engine>(x: Tensor<E, 2>) -> Tensor<E, 2> {
    let at = x.clone().inner();
    let below = (at.clone() * FRAC_1_SQRT_2).erf() * 0.5 + 0.5;
    let density = (at.clone() * at.clone() * -0.5).exp() * (FRAC_2_SQRT_PI * FRAC_1_SQRT_2 / 2.0);
    let slope = below.clone() + at.clone() * density;
    let value = at.clone() * below;
    (x - Tensor::from_inner(at)) * Tensor::from_inner(slope) + Tensor::from_inner(value)
}
