//! What a trainer writes: one JSON object a line, the only thing an invariant may see.
//!
//! Unknown fields are ignored and unknown events are an error. A field that a trainer cannot give is absent, and the
//! invariants that need it say so.

mod inside;
mod run;
mod state;
mod step;

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::number::Number;
use crate::plan::Boundary;
use crate::trace::recorded::Order;
use crate::trace::since::{Modes, Recomputed, Silent};
use crate::vocabulary::Adaptation;
pub use inside::{DIGESTED_UNITS, Dropped, Row};
pub use run::Run;
pub use state::{State, TensorState};
pub use step::{Loss, MicroBatch, TensorStep, Update};

/// One line of a trace.
#[derive(Clone, Debug, PartialEq, Serialize, JsonSchema)]
#[serde(tag = "event", rename_all = "snake_case")]
#[allow(missing_docs, reason = "each variant is documented by the type it carries")]
pub enum Event {
    Run(Box<Run>),
    MicroBatch(MicroBatch),
    Update(Update),
    State(Box<State>),
    Probe(Box<Probe>),
    Operation(Operation),
    Memory(Memory),
    Epoch(Epoch),
    Evaluation(Evaluation),
    Checkpoint(Checkpoint),
    Adapted(Adapted),
    Oom(Oom),
    End(End),
}

impl Event {
    /// The event's name as the trace has it.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Run(_) => "run",
            Self::MicroBatch(_) => "micro_batch",
            Self::Update(_) => "update",
            Self::State(_) => "state",
            Self::Probe(_) => "probe",
            Self::Operation(_) => "operation",
            Self::Memory(_) => "memory",
            Self::Epoch(_) => "epoch",
            Self::Evaluation(_) => "evaluation",
            Self::Checkpoint(_) => "checkpoint",
            Self::Adapted(_) => "adapted",
            Self::Oom(_) => "oom",
            Self::End(_) => "end",
        }
    }
}

/// Where the data stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
pub struct Cursor {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Micro-batches of it that are done.
    pub micro_batches: u64,
}

/// A forward outside training.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[schemars(rename = "ProbeMade")]
pub struct Probe {
    /// The plan's name for it.
    pub name: String,
    /// `start`, `end`, or `cycle-N` for the N-th model of the plan's `cycles`, from 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub at: Option<String>,
    /// One entry a sample.
    pub rows: Vec<ProbeRow>,
    /// Positions of a row, padding included.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub width: Option<u64>,
    /// Bytes of key-value cache that it allocated.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cache_bytes: Option<u64>,
    /// Gradients of the batch's loss, one entry a trained tensor.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub gradients: Vec<ProbeGradient>,
}

/// One operation of the model by itself, on values drawn from the plan's seed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Operation {
    /// The trainer's name for it, one of its own.
    pub name: String,
    /// The most values that one value of it is summed over, forward or backward.
    pub terms: u64,
    /// Its output, and then the gradient of each input.
    pub tensors: Vec<OperationTensor>,
}

/// The output of an operation, or the gradient of one of its inputs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct OperationTensor {
    /// Which it is, such as `output` or `gradient of x`.
    pub name: String,
    /// The L2 norm of its values.
    pub norm: Number,
    /// A few seeded signed sums of its values.
    pub sketch: Vec<Number>,
}

/// What a probe gave for one sample.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeRow {
    /// Summed language-model loss.
    pub loss: Number,
    /// A few seeded signed sums of the logits at each real position, flattened.
    #[serde(default)]
    pub logits: Vec<Number>,
    /// The head's output, flattened.
    #[serde(default)]
    pub head: Vec<Number>,
    /// Non-finite values among all of the row's outputs, padding included.
    #[serde(default)]
    pub nonfinite: u64,
}

/// The gradient of one tensor under a probe's loss.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ProbeGradient {
    /// The tensor.
    pub name: String,
    /// Its extents.
    pub shape: Vec<u64>,
    /// L2 norm.
    pub norm: Number,
    /// A few seeded signed sums.
    pub sketch: Vec<Number>,
}

/// Memory at a boundary.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Memory {
    /// The boundary.
    pub at: Boundary,
    /// Updates done.
    pub step: u64,
    /// What was measured, by lane; a lane that cannot be read is null or absent.
    pub lanes: std::collections::BTreeMap<String, Option<u64>>,
}

/// An edge of an epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Epoch {
    /// The epoch, from 0; of a recorded loop, the epoch of this loader.
    pub epoch: u64,
    /// Which edge. A recorder writes `end` only if the loader was exhausted or gave as many batches as its length.
    pub edge: Edge,
    /// The number of the loader, where a recorder saw several.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub loader: Option<u64>,
    /// The order in which its loader gives samples, where a recorder knows it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
}

impl Epoch {
    /// The beginning of an epoch.
    pub fn begin(epoch: u64) -> Self {
        Self { epoch, edge: Edge::Begin, loader: None, order: None }
    }

    /// The end of an epoch.
    pub fn end(epoch: u64) -> Self {
        Self { epoch, edge: Edge::End, loader: None, order: None }
    }
}

/// Begin or end.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum Edge {
    Begin,
    End,
}

/// A pass over the evaluation samples.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Evaluation {
    /// Updates done.
    pub step: u64,
    /// Ids of the evaluated samples, in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub samples: Option<Vec<u64>>,
    /// One entry a batch and loss: sums and weights.
    #[serde(default)]
    pub losses: Vec<Loss>,
    /// The figure that the trainer reports and chooses its best by.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub metric: Option<Number>,
    /// Digest of everything trainable before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_before: Option<String>,
    /// And after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub digest_after: Option<String>,
    /// The random stream before it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rng_before: Option<String>,
    /// And after it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rng_after: Option<String>,
    /// Units dropped while it ran.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dropped: Option<u64>,
    /// Its first rows as the model got them, where the trainer tells them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub told: Vec<Row>,
    /// Whether its batches came from a loader that has never trained: an evaluation, and no teacher's forward. Set by a
    /// recorder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart: Option<bool>,
    /// The modes of the modules that act only in training, at its forwards. Set by a recorder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub modes: Option<Modes>,
}

/// A checkpoint was written, read or removed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Checkpoint {
    /// What happened.
    pub edge: CheckpointEdge,
    /// Updates done.
    pub step: u64,
    /// The epoch, from 0.
    pub epoch: u64,
    /// Micro-batches of it that are done.
    pub micro_batches: u64,
    /// Its folder.
    pub path: String,
    /// File operations that the trainer has made so far, where it counts them.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub operations: Option<u64>,
    /// Checkpoints that claimed to be whole and were not, and were passed over for this one.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub damaged: Vec<String>,
    /// Whether it holds every parameter that trains and the optimizers' states, with what was saved beside it. Set by a
    /// recorder whose run is compared with another.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub whole: Option<bool>,
}

impl Checkpoint {
    /// One after `step` updates, in `epoch` after so many of its micro-batches, of which no more is known yet.
    pub fn new(
        edge: CheckpointEdge,
        step: u64,
        (epoch, micro_batches): (u64, u64),
        path: impl Into<String>,
    ) -> Self {
        let path = path.into();
        Self { edge, step, epoch, micro_batches, path, operations: None, damaged: Vec::new(), whole: None }
    }
}

/// What happened to a checkpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum CheckpointEdge {
    Saved,
    Loaded,
    Deleted,
}

/// The trainer changed its own settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Adapted {
    /// The setting.
    pub what: Adaptation,
    /// The value before.
    pub from: serde_json::Value,
    /// The value after.
    pub to: serde_json::Value,
    /// The accumulation after.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub accumulation: Option<u64>,
    /// Why.
    pub reason: String,
}

impl Adapted {
    /// Samples a micro-batch before and after, where it is they that were adapted.
    pub fn batches(&self) -> Option<(u64, u64)> {
        (self.what == Adaptation::Batch).then(|| self.from.as_u64().zip(self.to.as_u64()))?
    }
}

/// An allocation failed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Oom {
    /// Where.
    pub device: String,
    /// How much was asked for.
    pub requested_bytes: u64,
}

/// The last line.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct End {
    /// Why the run ended.
    pub reason: EndReason,
    /// More, where there is more to say.
    #[serde(default)]
    pub message: Option<String>,
    /// What a recorder could not observe because of an error of its own, in words.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trouble: Vec<String>,
    /// The numbers of optimizers that never stepped, though backward left gradients in parameters that only they hold.
    /// Set by a recorder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub idle: Vec<u64>,
    /// The numbers of optimizers whose gradients are not finite and were not cleared, though several windows have passed.
    /// Set by a recorder.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stuck: Vec<u64>,
    /// Trainable tensors that never received a gradient, if there are any. Set by a recorder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub silent: Option<Silent>,
    /// What activation checkpointing repeated, if it did. Set by a recorder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recomputed: Option<Recomputed>,
    /// After how many updates a copy of the model was evaluated that had the same values each time, if the model that trains
    /// was never evaluated. Set by a recorder.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unmoved: Option<u64>,
}

impl End {
    /// An end of which no more is known.
    pub fn new(reason: EndReason, message: Option<String>) -> Self {
        Self {
            reason,
            message,
            trouble: Vec::new(),
            idle: Vec::new(),
            stuck: Vec::new(),
            silent: None,
            recomputed: None,
            unmoved: None,
        }
    }
}

/// Why a run ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
#[allow(missing_docs, reason = "the names say it")]
pub enum EndReason {
    Done,
    Stopped,
    MemoryLimit,
    Error,
    /// The trainer cannot carry out this plan, and says why in `message`. Only before the first micro-batch; the
    /// process then ends with exit status 0.
    Declined,
}

impl fmt::Display for EndReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Done => "done",
            Self::Stopped => "stopped",
            Self::MemoryLimit => "memory-limit",
            Self::Error => "error",
            Self::Declined => "declined",
        })
    }
}
