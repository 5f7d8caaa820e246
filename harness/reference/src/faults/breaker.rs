//! Faults of the memory breaker: memory is not freed, or the update changes.

use super::Fault;
use crate::breaker::Grouping;
use crate::engine::Engine;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("halved-without-doubling", |parts| {
            parts.breaker.halve =
                |Grouping { batch, accumulation }| Grouping { batch: (batch / 2).max(1), accumulation };
        }),
        ("step-reset-by-the-breaker", |parts| parts.unchanged.step_after_regrouping = |_| 0),
        ("cache-cleared-and-kept", |parts| {
            parts.breaker.release = |kept| {
                // A second list still holds the batches.
                Box::leak(Box::new(std::mem::take(kept)));
            };
        }),
        ("breaker-acts-on-a-past-spike", |parts| parts.unchanged.limited_bytes = |peaks| peaks.run_bytes),
    ]
}
