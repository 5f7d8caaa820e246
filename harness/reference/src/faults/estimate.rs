//! Faults of the memory estimate: what it leaves out.

use super::Fault;
use crate::engine::Engine;
use crate::estimate::Micro;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("estimate-ignores-the-multiplier", |parts| {
            parts.estimate.taken_as = |micro| Micro { rows: micro.samples, forwards: 1, ..micro };
        }),
        ("estimate-leaves-out-the-cache", |parts| {
            parts.forward.keeps_cache = |asked, _| asked;
            parts.estimate.taken_as = |micro| Micro { keeps_cache: false, ..micro };
        }),
    ]
}
