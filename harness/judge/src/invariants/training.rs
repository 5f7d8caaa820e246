//! What training does: windows, rates, losses, batches, and runs held against each other.

pub mod batch;
pub mod best;
pub mod clip;
pub mod dropout;
pub mod evaluation_due;
pub mod evaluation_mean;
pub mod evaluation_pure;
pub mod finite;
pub mod frozen;
pub mod gets_gradient;
pub mod ledger;
pub mod logits;
pub mod loss_scale;
pub mod moves;
pub mod order;
pub mod partition;
pub mod purity;
pub mod repeat;
pub mod replayed;
pub mod schedule;
pub mod seed;
pub mod trainable;
pub mod window;
