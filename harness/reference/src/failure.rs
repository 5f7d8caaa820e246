//! What follows an error that ends a run: the trace says which it was, and the checkpoints are left alone.

use std::path::Path;

use crate::allowance::OutOfMemory;
use crate::checkpoint::{CheckpointError, Store};
use crate::error::TrainError;

/// The parts that follow an error.
#[derive(Clone, Copy)]
pub struct FailureParts {
    /// The lack of memory that an error is, where it is one.
    pub shortage: fn(&TrainError) -> Option<OutOfMemory>,
    /// What is done to the checkpoints in a folder when memory has run out.
    pub rescue: fn(&mut Store, root: &Path) -> Result<(), CheckpointError>,
}

impl Default for FailureParts {
    fn default() -> Self {
        // What was saved is whole, and there is no memory to save more: it is left as it is.
        Self { shortage: by_type, rescue: |_, _| Ok(()) }
    }
}

fn by_type(error: &TrainError) -> Option<OutOfMemory> {
    match error {
        TrainError::OutOfMemory(shortage) => Some(shortage.clone()),
        _ => None,
    }
}
