//! Faults of the memory estimate: what it leaves out.

use traintrue_memory::estimate::Request;

use super::Fault;
use crate::engine::Engine;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("estimate-ignores-the-multiplier", |parts| {
            parts.estimate.taken_as = |request| Request { rows_per_sample: 1, ..request };
        }),
        ("estimate-leaves-out-the-cache", |parts| {
            parts.forward.keeps_cache = |asked, _| asked;
            parts.estimate.taken_as = |request| Request { cache: false, ..request };
        }),
    ]
}
