//! Faults of one backend: an operation that only there is computed in another way.

use burn::tensor::Tensor;
use traintrue_protocol::plan::Dtype;

use super::Fault;
use crate::engine::Engine;
use crate::model::{NORM_EPS, Norm, Precision};
use crate::parts::Parts;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("gelu-by-tanh-on-one-backend", |parts| on_one(parts, |parts| parts.forward.gelu = gelu_by_tanh)),
        ("products-in-half-precision-on-one-backend", |parts| {
            on_one(parts, |parts| parts.forward.product = product_in_bf16);
        }),
        ("norm-without-its-deviations-gradient-on-one-backend", |parts| {
            on_one(parts, |parts| parts.forward.norm = norm_of_a_constant_deviation);
        }),
        ("step-at-the-peak-rate-on-one-backend", |parts| {
            on_one(parts, |parts| {
                parts.update.step = |optimizer, parameters, gradients, train, decay, _| {
                    optimizer.step(parameters, gradients, train, decay, train.optimizer.lr);
                };
            });
        }),
    ]
}

/// Changes the parts of every backend but burn-ndarray, which is the one that the others are held to.
fn on_one<E: Engine>(parts: &mut Parts<E>, change: fn(&mut Parts<E>)) {
    if !E::ESTIMATED {
        change(parts);
    }
}

/// The approximation of arXiv 1606.08415, section 2, which many kernels take for the function itself.
fn gelu_by_tanh<E: Engine>(x: Tensor<E, 2>) -> Tensor<E, 2> {
    let cubic = x.clone() + x.clone().powi_scalar(3) * 0.044_715;
    let inner = cubic * (2.0 / std::f64::consts::PI).sqrt();
    x * (inner.tanh() + 1.0) * 0.5
}

/// As a GPU does where it may trade precision for speed.
fn product_in_bf16<E: Engine>(a: Tensor<E, 2>, b: Tensor<E, 2>) -> Tensor<E, 2> {
    let half = Precision(Dtype::Bf16);
    half.round(a).matmul(half.round(b))
}

/// The output is right; the gradient takes the deviation for a constant.
fn norm_of_a_constant_deviation<E: Engine>(
    x: Tensor<E, 2>,
    layer: &Norm,
    weights: &[Tensor<E, 2>],
) -> Tensor<E, 2> {
    let centred = x.clone() - x.mean_dim(1);
    let variance = (centred.clone() * centred.clone()).mean_dim(1);
    centred / (variance + NORM_EPS).sqrt().detach() * weights[layer.weight].clone()
        + weights[layer.bias].clone()
}
