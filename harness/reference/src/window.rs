//! The gradient-accumulation window: the micro-batches whose gradients make one optimizer step.
//!
//! The counts of the whole window are known when the window opens. So each loss is divided by the counts of the whole
//! window, and a window of micro-batches of unequal size gives the gradient of one large batch.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use traintrue_protocol::contract::{Contract, Gradients, Normaliser, Tail};
use traintrue_protocol::plan::Train;

use crate::breaker::Grouping;
use crate::data::Counts;
use crate::engine::Engine;
use crate::model::Losses;

/// One gradient per parameter, in the order of the parameters; none for a frozen one.
pub type GradientSet<B> = Vec<Option<Tensor<B, 2>>>;

/// An open window.
#[derive(Clone, Debug)]
pub struct Window<B: Backend> {
    /// The scaled gradients so far.
    pub gradients: GradientSet<B>,
    /// Counts of the micro-batches so far.
    pub counts: Counts,
    /// The counts that the window will have when it closes.
    pub totals: Counts,
}

impl<B: Backend> Window<B> {
    /// A window without a micro-batch.
    pub fn empty() -> Self {
        Self { gradients: Vec::new(), counts: Counts::default(), totals: Counts::default() }
    }
}

/// The position of a micro-batch in its epoch and its window.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The micro-batch within its epoch, from 0.
    pub index: u64,
    /// Micro-batches per epoch.
    pub per_epoch: u64,
    /// Counts of the window, this micro-batch included.
    pub counts: Counts,
    /// The current samples per micro-batch and micro-batches per window.
    pub grouping: Grouping,
    /// The conventions of the run.
    pub contract: &'a Contract,
}

impl Place<'_> {
    /// Whether the micro-batch is its epoch's last.
    pub fn ends_epoch(&self) -> bool {
        self.index + 1 == self.per_epoch
    }
}

/// The numbers that the two summed losses are divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// For the language-model loss: supervised positions.
    pub lm: u64,
    /// For the head's loss: samples.
    pub head: u64,
}

/// The factors of the two summed losses of a micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scales {
    /// The language-model loss.
    pub lm: f64,
    /// The head's loss.
    pub head: f64,
}

impl Scales {
    /// Both factors, times another.
    pub fn times(self, factor: f64) -> Self {
        Self { lm: self.lm * factor, head: self.head * factor }
    }

    /// The scaled sum of the losses, which is differentiated.
    pub fn over<E: Engine>(self, losses: &Losses<E>) -> Tensor<E, 1> {
        let lm = losses.lm.clone() * self.lm;
        match &losses.head {
            Some(head) => lm + head.clone() * self.head,
            None => lm,
        }
    }
}

/// The parts of a window.
pub struct WindowParts<B: Backend> {
    /// Whether a window closes after a micro-batch.
    pub closes: fn(&Place) -> bool,
    /// The weights of some counts.
    pub weights: fn(&Counts) -> Weights,
    /// How a micro-batch's summed losses are scaled.
    pub scales: fn(micro_batch: Weights, window: Weights, &Counts, &Contract) -> Scales,
    /// Adds a micro-batch's gradients.
    pub accumulate: fn(&mut GradientSet<B>, GradientSet<B>, &Train),
    /// Resets a window after its update.
    pub after_update: fn(&mut Window<B>),
    /// Treats a window that is still open at the end of an epoch.
    pub at_epoch_end: fn(&mut Window<B>, Tail),
}

impl<B: Backend> Default for WindowParts<B> {
    fn default() -> Self {
        Self {
            closes,
            weights: |counts| Weights { lm: counts.targets, head: counts.samples },
            scales,
            accumulate: add,
            after_update: |window| *window = Window::empty(),
            at_epoch_end,
        }
    }
}

fn closes(place: &Place) -> bool {
    let full = place.counts.micro_batches == place.grouping.accumulation;
    full || (place.contract.tail == Tail::Flush && place.ends_epoch())
}

fn at_epoch_end<B: Backend>(window: &mut Window<B>, tail: Tail) {
    if tail == Tail::Drop {
        *window = Window::empty();
    }
}

/// The textbook scaling: a sum over the window divided once by what the whole window counts to.
pub fn scales(micro_batch: Weights, window: Weights, totals: &Counts, contract: &Contract) -> Scales {
    let share = |own: u64, all: u64| match (contract.gradients, contract.normaliser) {
        (Gradients::Sum, _) => 1.0,
        (Gradients::Mean, Normaliser::Tokens) => one_over(all as f64),
        (Gradients::Mean, Normaliser::MicroBatches) => one_over(own as f64 * totals.micro_batches as f64),
    };
    Scales { lm: share(micro_batch.lm, window.lm), head: share(micro_batch.head, window.head) }
}

/// `1 / x`, and 0 for an `x` of 0: a batch without a target must add 0 and not NaN.
pub fn one_over(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// Adds the gradients of a micro-batch to the sum.
pub fn add<B: Backend>(sum: &mut GradientSet<B>, new: GradientSet<B>, _train: &Train) {
    if sum.is_empty() {
        *sum = new;
        return;
    }
    for (sum, new) in sum.iter_mut().zip(new) {
        *sum = match (sum.take(), new) {
            (Some(sum), Some(new)) => Some(sum + new),
            (one, other) => one.or(other),
        };
    }
}
