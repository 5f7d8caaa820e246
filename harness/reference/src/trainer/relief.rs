//! What the loop does where memory runs short: above the plan's limit, and after an out-of-memory error.

use std::mem;

use traintrue_protocol::plan::Boundary;
use traintrue_protocol::trace::event::{Adapted, Cursor, EndReason, Oom};

use super::Training;
use crate::breaker::{Act, Grouping};
use crate::data::Batch;
use crate::engine::Engine;
use crate::error::TrainError;
use crate::events;

impl<E: Engine> Training<'_, '_, E> {
    /// Does what the breaker asks for. The reason to end, where nothing is left to make smaller.
    pub(super) fn relieve(&mut self) -> Result<Option<EndReason>, TrainError> {
        let (Some(limit), Some(peaks)) = (self.plan.memory, self.meter.peaks()) else {
            return Ok(None);
        };
        let bytes = (self.parts.unchanged.limited_bytes)(peaks);
        let why = format!("the heap stood at {bytes} B in update {}, of {} B", self.state.step, limit.bytes);
        match self.breaker.judge(bytes, peaks, &limit, self.grouping) {
            Act::GoOn => {}
            Act::ReleaseCaches => self.release_caches(why)?,
            Act::Halve => {
                let from = self.grouping;
                self.breaker.halved(from);
                self.regroup((self.parts.breaker.halve)(from), why)?;
            }
            Act::Recover => {
                if let Some(before) = self.breaker.recovered() {
                    self.regroup(before, format!("{why}: twice the micro-batch fits again"))?;
                }
            }
            Act::Stop => {
                if let Some(folder) = self.plan.save_to.as_deref() {
                    self.save(folder)?;
                }
                return Ok(Some(EndReason::MemoryLimit));
            }
        }
        Ok(None)
    }

    fn release_caches(&mut self, why: String) -> Result<(), TrainError> {
        let kept: u64 = self.evaluation.iter().map(Batch::bytes).sum();
        // A sample before the release and one after it: the trace shows the bytes that became free.
        self.recorder.memory_at(Boundary::Adaptation, self.state.step)?;
        (self.parts.breaker.release)(&mut self.evaluation);
        self.breaker.released();
        self.adapted(events::released(kept, why))
    }

    /// Continues with micro-batches of another size, from the next sample.
    fn regroup(&mut self, to: Grouping, why: String) -> Result<(), TrainError> {
        let from = mem::replace(&mut self.grouping, to);
        self.shard.regroup(&self.plan.data, to.batch);
        // The cursor counts micro-batches, and these have another size now.
        let done = self.state.cursor.micro_batches * from.batch / to.batch;
        self.state.cursor.micro_batches = done.min(self.shard.micro_batches);
        self.state.step = (self.parts.unchanged.step_after_regrouping)(self.state.step);
        self.adapted(events::regrouped(from, to, why))
    }

    fn adapted(&mut self, event: Adapted) -> Result<(), TrainError> {
        self.recorder.write(|| event)?;
        Ok(self.recorder.memory_at(Boundary::Adaptation, self.state.step)?)
    }

    /// Writes an `oom` event where the error is a lack of memory.
    pub(super) fn out_of_memory(&mut self, error: &TrainError) -> Result<(), TrainError> {
        let Some(shortage) = (self.parts.failure.shortage)(error) else { return Ok(()) };
        if let Some(folder) = self.plan.save_to.as_deref() {
            (self.parts.unchanged.rescue)(&mut self.store, folder)?;
        }
        let (device, requested_bytes) = (shortage.device, shortage.requested_bytes);
        Ok(self.recorder.write(|| Oom { device, requested_bytes })?)
    }

    /// The position in the data in micro-batches of the plan's own size. Checkpoints record this one, because a resumed
    /// process starts with the plan's size again.
    pub(super) fn planned_cursor(&self) -> Cursor {
        let Cursor { epoch, micro_batches } = self.state.cursor;
        let done = (micro_batches * self.grouping.batch).div_ceil(self.plan.data.batch);
        Cursor { epoch, micro_batches: done.min(self.planned) }
    }
}
