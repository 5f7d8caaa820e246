//! Which errors mean that memory ran out.

use crate::allowance::{AllowanceError, OutOfMemory};
use crate::error::TrainError;

/// The part that reads an error.
#[derive(Clone, Copy)]
pub struct FailureParts {
    /// The out-of-memory error that an error is; none for any other error.
    pub shortage: fn(&TrainError) -> Option<OutOfMemory>,
}

impl Default for FailureParts {
    fn default() -> Self {
        Self { shortage: by_type }
    }
}

fn by_type(error: &TrainError) -> Option<OutOfMemory> {
    match error {
        TrainError::Allowance(AllowanceError::OutOfMemory(shortage)) => Some(shortage.clone()),
        _ => None,
    }
}
