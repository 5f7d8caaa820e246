//! Faults of the causal mask: positions see what comes after them.

use super::Fault;
use crate::engine::Engine;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("mask-off-by-one", |parts| parts.forward.allows = |real, from, to| to <= from + 1 && real[to]),
        ("attention-sees-everything", |parts| parts.forward.allows = |real, _, to| real[to]),
        ("mask-transposed", |parts| parts.forward.allows = |real, from, to| to >= from && real[to]),
    ]
}
