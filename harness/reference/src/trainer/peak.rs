//! The predicted memory peak of a micro-batch.

use traintrue_protocol::plan::Plan;

use super::Training;
use crate::data::Batch;
use crate::engine::Engine;
use crate::prediction::{predict, request};

impl<E: Engine> Training<'_, '_, E> {
    /// Begins the peak of a micro-batch, with its prediction.
    pub(super) fn begin_peak(&self, batch: &Batch, keeps_cache: bool) {
        let Plan { data, train, .. } = self.plan;
        // From the second micro-batch of a window on, the backward pass finds the sum of the earlier gradients in memory.
        let accumulated = !self.state.window.gradients.is_empty();
        let request = request(batch, train, keeps_cache, E::CHECKPOINTING, accumulated);
        let request = (self.parts.unchanged.estimated)(request);
        let size = self.state.model.size;
        let predict = || predict(&size, data.tokens.vocabulary.into(), train.dropout, &request);
        self.meter.begin_forward(|| if E::ESTIMATED { predict() } else { None });
    }
}
