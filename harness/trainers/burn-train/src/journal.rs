//! What is seen of burn-train's loop, handed to the recorder as it happens.

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex, PoisonError};

use traintrue_protocol::trace::Event;
use traintrue_protocol::trace::event::{Checkpoint, CheckpointEdge, Evaluation, Loss};

/// Handed to the data loader and to the model, which burn clones as it likes.
#[derive(Clone, Debug)]
pub struct Journal {
    events: Sender<Event>,
    /// Updates done.
    step: Arc<AtomicU64>,
    /// The squares of the gradients that the optimizer was given since the last update, summed.
    given: Arc<Mutex<f64>>,
    /// The losses of the evaluation that is being made, one a batch.
    evaluated: Arc<Mutex<Vec<Loss>>>,
}

impl Journal {
    /// A journal of a run that has made no update yet.
    pub fn new(events: Sender<Event>) -> Self {
        Self { events, step: Arc::default(), given: Arc::default(), evaluated: Arc::default() }
    }

    /// Notes an event.
    pub fn note(&self, event: impl Into<Event>) {
        // The receiver is there for as long as training is.
        let _ = self.events.send(event.into());
    }

    /// The number of the update that was just made.
    pub fn next_step(&self) -> u64 {
        self.step.fetch_add(1, Ordering::Relaxed) + 1
    }

    /// The optimizer was given a gradient whose squares sum to this.
    pub fn given(&self, squares: f64) {
        *self.given.lock().unwrap_or_else(PoisonError::into_inner) += squares;
    }

    /// The norm of all gradients that the optimizer was given since this was asked last.
    pub fn given_norm(&self) -> f64 {
        std::mem::take(&mut *self.given.lock().unwrap_or_else(PoisonError::into_inner)).sqrt()
    }

    /// A batch of the evaluation was computed.
    pub fn evaluated(&self, loss: Loss) {
        self.evaluated.lock().unwrap_or_else(PoisonError::into_inner).push(loss);
    }

    /// An evaluation of these samples is over.
    pub fn evaluation_done(&self, samples: Vec<u64>) {
        let losses = std::mem::take(&mut *self.evaluated.lock().unwrap_or_else(PoisonError::into_inner));
        let step = self.step.load(Ordering::Relaxed);
        self.note(Evaluation { step, samples: Some(samples), losses, ..Default::default() });
    }

    /// A checkpoint of so many epochs of `updates` updates each was read.
    pub fn resumed(&self, folder: &Path, epochs: u64, updates: u64) {
        self.step.store(epochs * updates, Ordering::Relaxed);
        self.checkpoint(CheckpointEdge::Loaded, folder, epochs);
    }

    /// A checkpoint is written after so many epochs.
    pub fn saved(&self, folder: &Path, epochs: u64) {
        self.checkpoint(CheckpointEdge::Saved, folder, epochs);
    }

    fn checkpoint(&self, edge: CheckpointEdge, folder: &Path, epoch: u64) {
        let (step, path) = (self.step.load(Ordering::Relaxed), folder.display().to_string());
        let (operations, damaged) = (None, Vec::new());
        self.note(Checkpoint { edge, step, epoch, micro_batches: 0, path, operations, damaged });
    }
}
