//! Parts that a right trainer would not need.
//!
//! Each of them returns its argument, a constant or nothing. A fault can only replace what the loop calls, so the loop
//! calls these where known trainers have a bug and a right trainer has no code.

use std::path::Path;

use traintrue_memory::estimate::Request;
use traintrue_protocol::plan::Train;
use traintrue_protocol::trace::event::{Adapted, Cursor};

use crate::breaker::Peaks;
use crate::checkpoint::{CheckpointError, Store};
use crate::data::Counts;

/// Places in the loop for a fault, each with what a right trainer does there.
#[derive(Clone, Copy)]
pub struct Unchanged {
    /// Whether activations are recomputed in the backward pass: where the plan asks for it.
    pub recomputes: fn(&Train) -> bool,
    /// Whether a training forward pass keeps keys and values. Never: nothing in training reads a cache.
    pub keeps_cache: fn(asked: bool, forwards_before: u64) -> bool,
    /// The counts that the losses of a window are divided by: those that the window will have when it closes.
    pub window_totals: fn(Counts, &Train) -> Counts,
    /// Steps of the schedule per optimizer step: 1.
    pub steps_per_update: fn(&Train) -> u64,
    /// Steps of the schedule per micro-batch: 0.
    pub steps_per_micro_batch: fn(&Train) -> u64,
    /// The position in the data that a checkpoint records; `began` is where this process started.
    pub saved_cursor: fn(now: Cursor, began: Cursor) -> Cursor,
    /// The number of updates after the breaker has changed the micro-batch: as before.
    pub step_after_regrouping: fn(u64) -> u64,
    /// The bytes that the plan's limit applies to: the peak of the window that just closed.
    pub limited_bytes: fn(Peaks) -> u64,
    /// The request that the memory estimate is made for: the micro-batch itself.
    pub estimated: fn(Request) -> Request,
    /// The event for a device that is given up: always written.
    pub adapted: fn(Adapted) -> Option<Adapted>,
    /// What is done to the checkpoints in `root` after an out-of-memory error. Nothing: those that were saved are whole,
    /// and there is no memory to save another.
    pub rescue: fn(&mut Store, root: &Path) -> Result<(), CheckpointError>,
}

impl Default for Unchanged {
    fn default() -> Self {
        Self {
            recomputes: |train| train.checkpointing,
            keeps_cache: |_, _| false,
            window_totals: |counts, _| counts,
            steps_per_update: |_| 1,
            steps_per_micro_batch: |_| 0,
            saved_cursor: |now, _| now,
            step_after_regrouping: |step| step,
            limited_bytes: |peaks| peaks.window_bytes,
            estimated: |request| request,
            adapted: Some,
            rescue: |_, _| Ok(()),
        }
    }
}
