//! All that a training goes on from: parameters, moments, and whatever is beside them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use super::Cursor;
use crate::number::Number;
use crate::vocabulary::Moment;

/// Everything that the next update depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct State {
    /// When it was taken.
    pub at: Moment,
    /// Updates done.
    pub step: u64,
    /// Every parameter.
    #[serde(default)]
    pub tensors: Vec<TensorState>,
    /// Digests of the model's buffers, by name.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub buffers: BTreeMap<String, String>,
    /// Digest of the position of the random stream.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rng: Option<String>,
    /// Steps that the schedule has taken.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub schedule_step: Option<u64>,
    /// Where the data stands.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Cursor>,
    /// Micro-batches in the open window.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window: Option<u64>,
    /// Digest of the open window's gradients.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub window_digest: Option<String>,
    /// The best evaluation so far.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub best: Option<Number>,
    /// The loss scale, where there is one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub scaler: Option<Number>,
    /// Digest of the averaged weights, where there are any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ema: Option<String>,
    /// Digests of whatever else a checkpoint must bring back, by name: `buffers`, `scheduler`, `scaler`, `sampler`;
    /// `adapter-scale`, which is no tensor and belongs to the published weights; `batch-statistics`, of a model whose layers
    /// take statistics of their batch in training, as BatchNorm does: its rows are then not independent.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub parts: BTreeMap<String, String>,
}

impl State {
    /// The part that says what the adapters' deltas are multiplied by.
    pub const ADAPTER_SCALE: &str = "adapter-scale";
    /// The part that a model has whose layers take statistics of their batch in training, as BatchNorm does.
    pub const BATCH_STATISTICS: &str = "batch-statistics";

    /// One of which no more is known yet.
    pub fn new(at: Moment, step: u64) -> Self {
        Self {
            at,
            step,
            tensors: Vec::new(),
            buffers: Default::default(),
            rng: None,
            schedule_step: None,
            cursor: None,
            window: None,
            window_digest: None,
            best: None,
            scaler: None,
            ema: None,
            parts: Default::default(),
        }
    }
}

/// One parameter.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct TensorState {
    /// Its name.
    pub name: String,
    /// `base`, `adapter` or a head's name; `frozen` where its user froze it before training.
    pub group: String,
    /// Its extents.
    pub shape: Vec<u64>,
    /// Its number format.
    pub dtype: String,
    /// Whether it should learn.
    pub trainable: bool,
    /// Whether an optimizer holds it.
    pub optimized: bool,
    /// The weight decay of its optimizer group. Set by a recorder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay: Option<Number>,
    /// Digest of its values.
    pub digest: String,
    /// Digest of its optimizer state.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moments: Option<String>,
    /// L2 norm of its gradient at the last update, before clipping.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grad_norm: Option<Number>,
    /// A few seeded signed sums of its values.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sketch: Vec<Number>,
}

impl TensorState {
    /// Values in it.
    pub fn elements(&self) -> u64 {
        self.shape.iter().fold(1, |elements, extent| elements.saturating_mul(*extent))
    }
}
