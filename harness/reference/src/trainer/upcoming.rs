//! The micro-batches that come next.

use traintrue_protocol::trace::event::Cursor;

use super::Training;
use crate::data::{Batch, Counts, collate};
use crate::engine::Engine;
use crate::error::TrainError;
use crate::window::Place;

impl<E: Engine> Training<'_, '_, E> {
    /// The counts that the window which opens here will have when it closes. A loss is divided by the counts of its whole
    /// window, and must be divided before its backward pass: so the window's samples are collated twice. Ranks that train
    /// together divide by the counts of all their windows.
    pub(super) fn look_ahead(&mut self) -> Result<Counts, TrainError> {
        let Cursor { mut epoch, micro_batches: mut index } = self.state.cursor;
        let mut counts = Counts::default();
        loop {
            let ahead = epoch - self.state.cursor.epoch;
            counts = counts.and(self.batch(self.state.sampler_epoch + ahead, index).counts);
            if (self.parts.window.closes)(&self.place(index, counts)) {
                break;
            }
            index += 1;
            if index == self.shard.micro_batches {
                (epoch, index) = (epoch + 1, 0);
            }
            if epoch == self.plan.data.epochs {
                break;
            }
        }
        let at = format!("the window before update {}", self.state.step + 1);
        let totals = (self.parts.ranks.totals)(counts, self.ranks.counts(&at, counts)?);
        Ok((self.parts.unchanged.window_totals)(totals, &self.plan.train))
    }

    /// Where micro-batch `index` of its epoch is within a window that has these counts after it.
    pub(super) fn place(&self, index: u64, counts: Counts) -> Place<'_> {
        Place {
            index,
            per_epoch: self.shard.micro_batches,
            counts,
            grouping: self.grouping,
            contract: &self.contract,
        }
    }

    /// Micro-batch `index` of `epoch`, collated.
    pub(super) fn batch(&mut self, epoch: u64, index: u64) -> Batch {
        let data = &self.plan.data;
        let contrastive = !self.plan.train.heads.is_empty();
        let samples = self.shard.samples(data, epoch, index);
        collate(&self.parts.collate, data, &data.samples, &data.padding, samples, contrastive)
    }
}
