//! Faults of the key-value cache and of gradient checkpointing.

use super::Fault;
use crate::engine::Engine;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("cache-off-after-the-first-forward", |parts| {
            parts.unchanged.keeps_cache = |asked, forwards_before| asked && forwards_before == 0;
        }),
        ("cache-kept-in-training", |parts| parts.unchanged.keeps_cache = |asked, _| asked),
        ("cached-positions-restart", |parts| {
            parts.forward.position = |rows, place, from| rows.positions[place].saturating_sub(from as u32);
        }),
        ("checkpointing-silently-off", |parts| parts.unchanged.recomputes = |_| false),
    ]
}
