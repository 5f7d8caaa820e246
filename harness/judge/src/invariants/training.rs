//! What training does: windows, rates, losses, batches, and runs held against each other.

pub mod batch;
pub mod clip;
pub mod evaluation_mean;
pub mod evaluation_pure;
pub mod finite;
pub mod frozen;
pub mod ledger;
pub mod loss_scale;
pub mod moves;
pub mod partition;
pub mod purity;
pub mod repeat;
pub mod replayed;
pub mod schedule;
pub mod trainable;
pub mod window;
