//! From the plan's samples to the rows of a forward pass: order, collation, labels.

mod batch;
mod collate;
mod order;

pub use batch::{Batch, Counts, Rows};
pub use collate::{CollateParts, collate, width};
pub use order::{OrderParts, Shard, in_order, shuffled};
