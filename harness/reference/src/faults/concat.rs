//! Faults of concatenated inputs: the three rows per sample are counted or divided wrongly.

use super::Fault;
use crate::engine::Engine;
use crate::window::{Scales, scales};

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("rows-counted-as-samples", |parts| {
            parts.window.closes = |place| {
                place.counts.rows >= place.grouping.accumulation * place.grouping.batch || place.ends_epoch()
            };
        }),
        ("divided-by-three-twice", |parts| {
            parts.window.scales = |own, all, totals, contract| {
                let Scales { lm, head } = scales(own, all, totals, contract);
                Scales { lm: lm / 9.0, head: head / 9.0 }
            };
        }),
    ]
}
