//! Faults of the memory estimate: it leaves something out.

use traintrue_memory::estimate::Request;

use super::Fault;
use crate::engine::Engine;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("estimate-ignores-the-multiplier", |parts| {
            parts.unchanged.estimated = |request| Request { rows_per_sample: 1, ..request };
        }),
        ("estimate-leaves-out-the-cache", |parts| {
            parts.unchanged.keeps_cache = |asked, _| asked;
            parts.unchanged.estimated = |request| Request { cache: false, ..request };
        }),
    ]
}
