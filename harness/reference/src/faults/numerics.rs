//! Faults that show in a row without a token: zero divided by zero, or attention to padding.

use super::Fault;
use crate::engine::Engine;
use crate::model::{fill_then_softmax, masked_mean};

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("pooling-without-a-clamp", |parts| {
            parts.forward.pool = |hidden, rows, precision| masked_mean(hidden, rows, precision, 0.0);
        }),
        ("clamp-underflows-in-f16", |parts| {
            parts.forward.pool = |hidden, rows, precision| masked_mean(hidden, rows, precision, 1e-9);
        }),
        ("zero-vector-normalised", |parts| {
            parts.forward.unit = |x, precision| {
                let length = (x.clone() * x.clone()).sum_dim(1).sqrt();
                precision.round(x / length)
            };
        }),
        ("softmax-over-minus-infinity", |parts| {
            parts.forward.softmax = |scores, mask| fill_then_softmax(scores, mask, f32::NEG_INFINITY);
        }),
        ("mask-value-within-reach", |parts| {
            parts.forward.softmax = |scores, mask| fill_then_softmax(scores, mask, -4.0);
        }),
    ]
}
