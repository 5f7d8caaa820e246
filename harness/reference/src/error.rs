//! What can stop a run.

use crate::allowance::OutOfMemory;
use crate::checkpoint::CheckpointError;
use crate::device::DeviceError;
use crate::model::SizeError;
use crate::placement::NoDevice;

/// A run that could not start or go on.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum TrainError {
    #[error(transparent)]
    Device(#[from] DeviceError),
    #[error(transparent)]
    Size(#[from] SizeError),
    #[error(transparent)]
    NoDevice(#[from] NoDevice),
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    #[error("the device failed: {0}")]
    DeviceFault(String),
    #[error("plan: {field}: {problem}")]
    Unsupported { field: &'static str, problem: String },
    #[error("unknown fault {0:?}; traintrue list names them all")]
    UnknownFault(String),
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    #[error("cannot write the trace: {0}")]
    Trace(#[from] std::io::Error),
}
