//! What a micro-batch and its update take of the heap at their peak, before either is made.
//!
//! The forward pass is played through on tensors that have a shape and no values: [`forward`] names its operations, [`tape`]
//! keeps what burn-autodiff keeps, [`backward`] frees as it frees, and [`array`] copies where burn-ndarray copies. The peak
//! follows from shapes and from the sizes of types; no figure in it comes from a measurement.

mod array;
mod backward;
mod forward;
mod tape;

use burn::tensor::backend::Backend;
use traintrue_protocol::plan::{Forward, Train};

use crate::data::Batch;
use crate::model::{Model, Parameter};
use array::{Array, Heap};
use backward::backward;
use forward::{Pass, losses};
use tape::{Op, Tape};

/// The extents of a micro-batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Micro {
    /// Its samples.
    pub samples: usize,
    /// The rows of its forwards together.
    pub rows: usize,
    /// Positions a row.
    pub width: usize,
    /// Forwards that the rows go through.
    pub forwards: usize,
    /// Whether they keep keys and values.
    pub keeps_cache: bool,
}

impl Micro {
    /// Those of a batch.
    pub fn of(batch: &Batch, train: &Train, keeps_cache: bool) -> Self {
        let (samples, rows) = (batch.samples.len(), batch.rows.count);
        let forwards = match train.forward {
            Forward::Concatenated => 1,
            Forward::Separate => rows / samples,
        };
        Self { samples, rows, width: batch.rows.width, forwards, keeps_cache }
    }
}

/// The part that a prediction begins with.
pub struct EstimateParts {
    /// What the micro-batch at hand is taken to be.
    pub taken_as: fn(Micro) -> Micro,
}

impl Default for EstimateParts {
    fn default() -> Self {
        Self { taken_as: |micro| micro }
    }
}

/// Peaks of the heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Prediction {
    /// Until the gradients are added to the window.
    pub forward_bytes: u64,
    /// Until an update after that is done, were there one.
    pub update_bytes: u64,
}

/// Plays a micro-batch through, and an update after it; `accumulated` where the window has gradients already. Gradients are
/// taken to be clipped where the plan limits them.
pub fn predict<B: Backend>(
    model: &Model,
    parameters: &[Parameter<B>],
    train: &Train,
    micro: Micro,
    accumulated: bool,
) -> Prediction {
    let heap = Heap::default();
    let mut state = State::new(&heap, parameters, accumulated);
    // The batch: ids, positions, whether each is a token, and a target with its presence.
    let _batch = heap.hold((micro.rows * micro.width * 9 + micro.samples * micro.width * 8) as u64);
    let gradients = state.gradients(&heap, model, train, micro);
    state.accumulate(gradients);
    let forward_bytes = heap.peak_bytes();
    state.update(train.clip.is_some());
    Prediction { forward_bytes, update_bytes: heap.peak_bytes() }
}

/// A parameter and what belongs to it.
struct Weight {
    value: Array,
    trainable: bool,
    is_matrix: bool,
    moments: Option<[Array; 2]>,
    /// In the open window.
    gradient: Option<Array>,
}

struct State(Vec<Weight>);

impl State {
    fn new<B: Backend>(heap: &Heap, parameters: &[Parameter<B>], accumulated: bool) -> Self {
        let weight = |parameter: &Parameter<B>| {
            let new = || Array::new(heap, &Parameter::<B>::extents(&parameter.shape));
            Weight {
                value: new(),
                trainable: parameter.trainable,
                is_matrix: parameter.shape.len() > 1,
                moments: parameter.trainable.then(|| [new(), new()]),
                gradient: (parameter.trainable && accumulated).then(new),
            }
        };
        Self(parameters.iter().map(weight).collect())
    }

    /// The trainer's `forward_backward`.
    fn gradients(&self, heap: &Heap, model: &Model, train: &Train, micro: Micro) -> Vec<Option<Array>> {
        let tape = Tape::new(heap, train.checkpointing);
        let leaf = |weight: &Weight| tape.leaf(weight.value.clone(), weight.trainable);
        let weights: Vec<_> = self.0.iter().map(leaf).collect();
        let pass = Pass { model, weights: &weights, tape: &tape, drops: train.dropout > 0.0 };
        let losses = losses(&pass, &micro);
        let lm = losses.lm.clone().by(Op::Scale);
        let total = match &losses.head {
            Some(head) => lm.with(Op::Add, head.clone().by(Op::Scale)),
            None => lm,
        };
        let mut found = backward(total);
        weights.iter().map(|weight| found.remove(&weight.node)).collect()
    }

    /// The window's `add`.
    fn accumulate(&mut self, gradients: Vec<Option<Array>>) {
        for (weight, new) in self.0.iter_mut().zip(gradients) {
            weight.gradient = match (weight.gradient.take(), new) {
                (Some(sum), Some(new)) => Some(sum.add(new)),
                (one, other) => one.or(other),
            };
        }
    }

    /// The trainer's `update`: norms are taken of copies, a clipped set of gradients stands beside the window's.
    fn update(&mut self, clips: bool) {
        let mut given: Vec<Option<Array>> = self.0.iter().map(|weight| weight.gradient.clone()).collect();
        for gradient in given.iter_mut().flatten() {
            drop(gradient.clone().copy());
        }
        if clips {
            for gradient in given.iter_mut().flatten() {
                *gradient = gradient.clone().in_place();
            }
        }
        for (weight, gradient) in self.0.iter_mut().zip(&given) {
            if let (Some(moments), Some(gradient)) = (&mut weight.moments, gradient) {
                step(&mut weight.value, moments, gradient, weight.is_matrix);
            }
        }
        for weight in self.0.iter().filter(|weight| weight.trainable) {
            drop(weight.value.clone().copy());
        }
    }
}

/// AdamW's step of one parameter.
fn step(value: &mut Array, [first, second]: &mut [Array; 2], gradient: &Array, decays: bool) {
    if decays {
        *value = value.clone().in_place();
    }
    for moment in [&mut *first, &mut *second] {
        let decayed = moment.clone().in_place();
        *moment = decayed.add(gradient.clone().in_place());
    }
    let root = second.clone().in_place();
    let direction = first.clone().in_place();
    drop(root);
    *value = value.clone().in_place();
    drop(direction);
}

#[cfg(test)]
mod tests;
