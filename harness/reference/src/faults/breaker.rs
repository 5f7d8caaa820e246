//! Faults of the memory breaker: room that is not made, or made at the cost of the update.

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
        ("step-reset-by-the-breaker", |parts| parts.breaker.step = |_| 0),
        ("cache-cleared-and-kept", |parts| {
            parts.breaker.release = |kept| {
                // Whoever cleared the map did not know of the other list.
                Box::leak(Box::new(std::mem::take(kept)));
            };
        }),
        ("breaker-acts-on-a-past-spike", |parts| parts.breaker.reading = |peaks| peaks.run_bytes),
    ]
}
