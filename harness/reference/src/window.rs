//! The accumulation window: micro-batches whose gradients become one update.
//!
//! A window knows, when it opens, what it will count to when it closes; so each micro-batch's loss can be scaled by its
//! share of the whole window, and a window of ragged micro-batches equals one large batch.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use serde::{Deserialize, Serialize};
use traintrue_protocol::contract::{Contract, Gradients, Normaliser, Tail};
use traintrue_protocol::plan::Train;

use crate::breaker::Grouping;
use crate::data::Counts;
use crate::engine::Engine;
use crate::model::Losses;

/// One gradient a trained tensor, in the order of the parameters.
pub type GradientSet<B> = Vec<Option<Tensor<B, 2>>>;

/// An open window.
#[derive(Clone, Debug)]
pub struct Window<B: Backend> {
    /// The scaled gradients so far.
    pub gradients: GradientSet<B>,
    /// What has gone in.
    pub counts: Counts,
    /// What it will count to when it closes.
    pub totals: Counts,
}

impl<B: Backend> Window<B> {
    /// A window with nothing in it.
    pub fn empty() -> Self {
        Self { gradients: Vec::new(), counts: Counts::default(), totals: Counts::default() }
    }
}

/// Where a micro-batch stands, its own counts already in `counts`.
#[derive(Clone, Copy, Debug)]
pub struct Place<'a> {
    /// The micro-batch within its epoch, from 0.
    pub index: u64,
    /// Micro-batches an epoch.
    pub an_epoch: u64,
    /// What the window counts to with it.
    pub counts: Counts,
    /// Samples a micro-batch, and micro-batches a window, as they are now.
    pub grouping: Grouping,
    /// The conventions.
    pub contract: &'a Contract,
}

impl Place<'_> {
    /// Whether the micro-batch is its epoch's last.
    pub fn ends_epoch(&self) -> bool {
        self.index + 1 == self.an_epoch
    }
}

/// What the two summed losses are to be divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Weights {
    /// Of the language-model loss: supervised positions.
    pub lm: u64,
    /// Of the head's loss: samples.
    pub head: u64,
}

/// What the two summed losses of a micro-batch are multiplied by.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
pub struct Scales {
    /// The language-model loss.
    pub lm: f64,
    /// The head's loss.
    pub head: f64,
}

impl Scales {
    /// The one loss that is differentiated.
    pub fn over<E: Engine>(self, losses: &Losses<E>) -> Tensor<E, 1> {
        let lm = losses.lm.clone() * self.lm;
        match &losses.head {
            Some(head) => lm + head.clone() * self.head,
            None => lm,
        }
    }
}

/// The parts that make a window.
pub struct WindowParts<B: Backend> {
    /// Whether a window closes after a micro-batch.
    pub closes: fn(&Place) -> bool,
    /// What a window's totals are taken to be, given what it will really count to.
    pub totals: fn(Counts, &Train) -> Counts,
    /// The weights of what was counted.
    pub weights: fn(&Counts) -> Weights,
    /// How a micro-batch's summed losses are scaled.
    pub scales: fn(micro_batch: Weights, window: Weights, &Counts, &Contract) -> Scales,
    /// Adds a micro-batch's gradients.
    pub accumulate: fn(&mut GradientSet<B>, GradientSet<B>, &Train),
    /// What is left of a window after its update.
    pub after_update: fn(&mut Window<B>),
    /// What is left at an epoch's end of a window that did not close.
    pub at_epoch_end: fn(&mut Window<B>, Tail),
}

impl<B: Backend> Default for WindowParts<B> {
    fn default() -> Self {
        Self {
            closes,
            totals: |counts, _| counts,
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

/// `1 / x`, and 0 for an `x` of 0: a batch without a single target adds nothing.
pub fn one_over(x: f64) -> f64 {
    if x == 0.0 { 0.0 } else { 1.0 / x }
}

/// Adds tensor by tensor.
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
