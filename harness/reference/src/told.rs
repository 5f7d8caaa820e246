//! Which micro-batches and evaluations the trace gets the rows of.

use traintrue_protocol::plan::Plan;

/// The first micro-batches of an epoch are told, then each of so many, and the last.
const FIRST: u64 = 4;
const EACH: u64 = 64;
/// Rows of an evaluation.
pub const OF_AN_EVALUATION: usize = 8;

/// Whether rows are told at all. A run whose memory is measured tells none: to tell them takes memory.
pub fn tells(plan: &Plan) -> bool {
    plan.sample_memory.is_empty() && plan.memory.is_none()
}

/// Whether the micro-batch `index` of `per_epoch` is told.
pub fn is_told(index: u64, per_epoch: u64) -> bool {
    index < FIRST || index.is_multiple_of(EACH) || index + 1 == per_epoch
}
