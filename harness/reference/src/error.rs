//! The error of the whole trainer, made of the errors of its modules.

use crate::allowance::AllowanceError;
use crate::checkpoint::CheckpointError;
use crate::device::DeviceError;
use crate::model::SizeError;
use crate::placement::{NoDevice, PlacementError};
use crate::ranks::RanksError;

/// A run that could not start or go on.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum TrainError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Size(#[from] SizeError),
    #[error(transparent)]
    Placement(#[from] PlacementError),
    #[error(transparent)]
    NoDevice(#[from] NoDevice),
    #[error(transparent)]
    Allowance(#[from] AllowanceError),
    #[error("plan: train.heads: this trainer has at most one head, found {0}")]
    Heads(usize),
    #[error("unknown fault {0:?}; traintrue list names them all")]
    UnknownFault(String),
    #[error(transparent)]
    Ranks(#[from] RanksError),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("cannot write the trace: {0}")]
    Trace(#[from] std::io::Error),
}
