//! What training is made of: micro-batches and updates.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::inside::{Dropped, Row};
use crate::number::Number;
use crate::trace::since::{Modes, Since};

/// One forward and backward.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct MicroBatch {
    /// The epoch, from 0.
    pub epoch: u64,
    /// The micro-batch within its epoch, from 0.
    pub index: u64,
    /// Ids of the samples in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Vec<u64>>,
    /// Rows of the forward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rows: Option<u64>,
    /// Positions of a row, padding included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u64>,
    /// Positions that are not padding, over all rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tokens: Option<u64>,
    /// Supervised positions.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<u64>,
    /// Bytes of key-value cache allocated by this forward.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_bytes: Option<u64>,
    /// Whether activations of this forward are recomputed in the backward pass.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpointing: Option<bool>,
    /// Sums before any scaling, each with the weight that it is to be divided by.
    #[serde(default)]
    pub losses: Vec<Loss>,
    /// One row a sample as the model got it, in the order of `samples`. A trainer tells the rows of a few micro-batches.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<Row>,
    /// What each dropout did in its forward, in their order; absent where the trainer does not tell.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropout: Option<Vec<Dropped>>,
    /// The number of the loader that gave its batch. Set by a recorder; absent where no loader did.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loader: Option<u64>,
    /// The sum of the scalars that `backward()` ran on, without the factor of a GradScaler. Set by a recorder, and by a
    /// trainer whose ranks train together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub backward: Option<Number>,
    /// The numbers of the optimizers whose parameters got gradients from it; empty where that is unknown.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub optimizers: Vec<u64>,
    /// The modes of the modules that act only in training, at its training forward. Set by a recorder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modes: Option<Modes>,
    /// Digest of the random state before its first forward. Set by a recorder whose run is compared with another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rng: Option<String>,
    /// Ids of its rows by what is in them, beside those of `samples`. Set by a recorder whose run is compared with
    /// another: one of the two may not know the indices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub content: Option<Vec<u64>>,
}

impl MicroBatch {
    /// Positions of the forward, padding included; 0 where it does not say.
    pub fn positions(&self) -> u64 {
        self.rows.zip(self.width).map_or(0, |(rows, width)| rows.saturating_mul(width))
    }
}

/// One summed loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Loss {
    /// `lm`, or the name of a head.
    pub name: String,
    /// The sum over what the weight counts.
    pub sum: Number,
    /// What the trainer divides by: targets, samples.
    pub weight: Number,
}

impl Loss {
    /// A sum over so many targets, or samples.
    pub fn new(name: impl Into<String>, sum: f64, weight: u64) -> Self {
        Self { name: name.into(), sum: Number(sum), weight: Number(weight as f64) }
    }
}

/// One optimizer step.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Update {
    /// Updates done, this one included: the first is 1.
    pub step: u64,
    /// Micro-batches whose gradients the trainer believes to be in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub micro_batches: Option<u64>,
    /// Supervised positions in it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub targets: Option<u64>,
    /// Learning rate of each optimizer group.
    #[serde(default)]
    pub lr: Vec<Number>,
    /// Global L2 norm of the gradients before clipping; where a recorder saw a clip, the norm that the clip computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<Number>,
    /// Global L2 norm of the gradients that the optimizer was given.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub clipped_norm: Option<Number>,
    /// False where the step was skipped.
    #[serde(default = "yes")]
    pub applied: bool,
    /// Digest of all trainable parameters after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest: Option<String>,
    /// The number of the optimizer, where a recorder saw several; absent is 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub optimizer: Option<u64>,
    /// Weight decay of each optimizer group. Set by a recorder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub decay: Vec<Number>,
    /// What a recorder saw since this optimizer's previous update.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<Box<Since>>,
    /// What it did to each tensor, at a few places. A trainer writes it for its first updates and some later ones.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub tensors: Vec<TensorStep>,
}

/// What an update did to one tensor that got a gradient, at a few of its places: the step is replayed from it.
///
/// Every list has one value per place, in one order. A place is an element of the tensor; the trainer chooses which. A
/// recorder of ranks tells only what was added to the gradient, and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TensorStep {
    /// The tensor's name.
    pub name: String,
    /// Its extents: a plan's decay is of matrices only.
    pub shape: Vec<u64>,
    /// The optimizer group that it is in: which of the update's rates it is trained at.
    #[serde(default)]
    pub group: u64,
    /// Updates of this tensor, this one included: the exponent of Adam's bias correction.
    #[serde(default)]
    pub updates: u64,
    /// What each micro-batch of the window added to the gradient, in their order, before ranks were averaged: the gradient
    /// of what its backward pass ran on. Empty where the trainer does not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub added: Vec<Vec<Number>>,
    /// The gradient before clipping, averaged over the ranks.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub unclipped: Vec<Number>,
    /// The gradient that the optimizer was given.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gradient: Vec<Number>,
    /// The values before the update.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<Number>,
    /// The values after it.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub after: Vec<Number>,
    /// The mean of the gradients (Adam's first moment) before and after the update; empty where the optimizer has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub first: Vec<[Number; 2]>,
    /// The mean of their squares (Adam's second moment) before and after the update; empty where the optimizer has none.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub second: Vec<[Number; 2]>,
}

fn yes() -> bool {
    true
}
