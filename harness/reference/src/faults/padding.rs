//! Faults of padding: pads are counted, learnt or attended to, or they shift the tokens.

use super::Fault;
use crate::engine::Engine;
use crate::window::Weights;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("dataset-padding-overrides", |parts| {
            parts.collate.width = |_, _, max_length| max_length;
        }),
        ("pads-in-the-denominator", |parts| {
            parts.window.weights = |counts| Weights { lm: counts.positions, head: counts.samples };
        }),
        ("pads-supervised", |parts| {
            parts.collate.supervised = |_, real, _| (0..real.len()).map(|at| at + 1 < real.len()).collect();
        }),
        ("eos-masked-as-pad", |parts| {
            parts.collate.supervised = |ids, real, tokens| {
                let token = |at: usize| real.get(at).copied().unwrap_or(false) && ids[at] != tokens.eos;
                (0..real.len()).map(|at| token(at) && token(at + 1)).collect()
            };
        }),
        ("positions-not-shifted", |parts| {
            parts.collate.positions = |real| (0..real.len() as u32).collect();
        }),
        ("padding-attended", |parts| parts.forward.allows = |_, from, to| to <= from),
    ]
}
