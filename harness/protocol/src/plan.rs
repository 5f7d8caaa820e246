//! The plan: what one run must do. This is all that a trainer is told.
//!
//! A plan carries literal data, so that a judge can work out from it every count that the trace should show.

mod device;
mod dtype;
mod read;
mod validate;

use std::path::PathBuf;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::Asked;
pub use crate::version::SCHEMA;
use validate::ADAPTER_TARGETS;

pub use device::DeviceChoice;
pub use dtype::Dtype;
pub use read::PlanReadError;
pub use validate::{COUNT_MOST, PlanError};

/// What one run must do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Plan {
    /// The version of this format.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: u32,
    /// The scenario that this run belongs to.
    pub scenario: String,
    /// The name of the run within its scenario.
    pub run: String,
    /// Seed of initial weights, data order and dropout.
    pub seed: u64,
    /// The samples and how they become batches.
    pub data: Data,
    /// How the batches become updates.
    pub train: Train,
    /// The model.
    pub model: Model,
    /// Where to resume; null starts afresh.
    #[serde(default)]
    pub start: Option<Start>,
    /// Where to stop; null goes to the end.
    #[serde(default)]
    pub stop: Option<Stop>,
    /// Evaluate after every so many updates.
    #[serde(default)]
    #[schemars(range(min = 1, max = COUNT_MOST))]
    pub evaluate_every: Option<u64>,
    /// Save after every so many updates, into `save_to`.
    #[serde(default)]
    #[schemars(range(min = 1, max = COUNT_MOST))]
    pub save_every: Option<u64>,
    /// The folder that holds the checkpoints of `save_every`.
    #[serde(default)]
    pub save_to: Option<PathBuf>,
    /// Write a `state` event after every so many updates.
    #[serde(default)]
    #[schemars(range(min = 1, max = COUNT_MOST))]
    pub state_every: Option<u64>,
    /// The boundaries at which memory is sampled.
    #[serde(default)]
    pub sample_memory: Vec<Boundary>,
    /// Forwards outside training, whose outputs the trace shows.
    #[serde(default)]
    pub probes: Vec<Probe>,
    /// Before training, do each operation of the model by itself, on values drawn from the seed, and tell what it gives.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub operations: bool,
    /// Devices to compute on, the preferred one first; an empty list leaves it to the trainer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub devices: Vec<DeviceChoice>,
    /// Models to load, to use for the probes and to unload, one after another, before training.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub cycles: Vec<Model>,
    /// Conventions asked for in place of the trainer's own.
    #[serde(default)]
    pub contract: Asked,
    /// What the run may take, and what it does when it takes more; null lets it take what it takes.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub memory: Option<MemoryLimit>,
    /// Where to write the trace; absent means standard output.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub trace: Option<PathBuf>,
}

/// The memory that a run may take. Above it caches are released, then micro-batches are halved while the accumulation is
/// doubled, down to one sample; then the run saves into `save_to` and ends with the reason `memory-limit`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct MemoryLimit {
    /// The highest that the heap may stand while a window is computed.
    pub bytes: u64,
    /// Take up the larger micro-batch again after so many updates in a row that would have fitted; null never does.
    #[serde(default)]
    pub recover_after: Option<u64>,
}

/// Token ids with a meaning, and how many ids there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Tokens {
    /// Fills rows up to the width.
    pub pad: u32,
    /// Begins a sample.
    pub bos: u32,
    /// Ends a sample; kept by truncation.
    pub eos: u32,
    /// Ids are below this.
    pub vocabulary: u32,
}

/// The samples and how they become batches.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Data {
    /// Token ids of each training sample; the index is the sample's id. An empty one is a row of padding.
    #[schemars(length(min = 1))]
    pub samples: Vec<Vec<u32>>,
    /// Token ids of each evaluation sample.
    #[serde(default)]
    pub evaluation: Vec<Vec<u32>>,
    /// Ids with a meaning.
    pub tokens: Tokens,
    /// Samples a micro-batch.
    #[schemars(range(min = 1, max = COUNT_MOST))]
    pub batch: u64,
    /// Passes over the samples.
    #[schemars(range(min = 1, max = COUNT_MOST))]
    pub epochs: u64,
    /// Whether each epoch has its own seeded order.
    pub shuffle: bool,
    /// How rows reach one width.
    pub padding: Padding,
    /// Longer samples are cut to this, keeping their last token.
    #[schemars(range(min = 2, max = COUNT_MOST))]
    pub max_length: u64,
    /// Whether an epoch's last, smaller micro-batch is left out.
    pub drop_last: bool,
}

/// How the rows of a batch reach one width.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Padding {
    /// To the longest row of the batch, or to `max_length`.
    pub policy: PaddingPolicy,
    /// The side that pads are put on.
    pub side: Side,
    /// The width is rounded up to a multiple of this.
    #[schemars(range(min = 1, max = COUNT_MOST))]
    pub multiple_of: u64,
}

/// The width of a batch.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum PaddingPolicy {
    /// The longest row of the batch.
    Longest,
    /// `max_length`, whatever the rows are.
    MaxLength,
}

/// Left or right.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Side {
    /// Pads before the tokens.
    Left,
    /// Pads after the tokens.
    Right,
}

/// How batches become updates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Train {
    /// Micro-batches in an accumulation window.
    #[schemars(range(min = 1, max = COUNT_MOST))]
    pub accumulation: u64,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Global gradient norm above which gradients are scaled down.
    #[serde(default)]
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub clip: Option<f64>,
    /// The learning-rate schedule.
    pub schedule: Schedule,
    /// Probability that a unit is dropped in training.
    #[serde(default)]
    #[schemars(extend("minimum" = 0, "exclusiveMaximum" = 1))]
    pub dropout: f64,
    /// Low-rank adapters on a frozen base; null trains everything.
    #[serde(default)]
    pub adapters: Option<Adapters>,
    /// Extra trained heads by name.
    #[serde(default)]
    pub heads: Vec<String>,
    /// Whether the rows of a sample go through the model in one forward or one by one.
    #[serde(default)]
    pub forward: Forward,
    /// Whether activations are recomputed in the backward pass.
    #[serde(default)]
    pub checkpointing: bool,
    /// Whether the model's configuration asks for a key-value cache.
    #[serde(default)]
    pub cache: bool,
    /// Number format; `f16` and `bf16` may be emulated.
    #[serde(default)]
    pub dtype: Dtype,
    /// This process among the data-parallel ones.
    #[serde(default)]
    pub rank: u64,
    /// How many data-parallel processes there are.
    #[serde(default = "one")]
    #[schemars(range(min = 1, max = COUNT_MOST))]
    pub world: u64,
    /// Whether these processes train together: they find each other through `MASTER_ADDR` and `MASTER_PORT`, as under
    /// torchrun, and each applies the mean of their gradients.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub together: bool,
}

fn one() -> u64 {
    1
}

/// AdamW's settings.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Optimizer {
    /// Its name; `adamw`.
    #[schemars(extend("const" = "adamw"))]
    pub name: String,
    /// Peak learning rate.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub lr: f64,
    /// Decay of the two moments.
    #[schemars(extend("items" = {"type": "number", "minimum": 0, "exclusiveMaximum": 1}))]
    pub betas: [f64; 2],
    /// Added to the root of the second moment.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub eps: f64,
    /// Decoupled weight decay, of matrices only.
    #[schemars(range(min = 0.0))]
    pub decay: f64,
}

/// A learning-rate schedule.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Schedule {
    /// Its form after the warm-up.
    pub name: ScheduleName,
    /// Updates over which the rate rises from 0 to its peak.
    #[schemars(range(max = COUNT_MOST))]
    pub warmup: u64,
    /// Updates in all; null means that the trainer works it out itself, as trainers do.
    #[serde(default)]
    #[schemars(range(min = 1, max = COUNT_MOST))]
    pub updates: Option<u64>,
}

/// The form of a schedule after its warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ScheduleName {
    /// The peak, for ever.
    Constant,
    /// A straight line to 0.
    Linear,
    /// Half a cosine to 0.
    Cosine,
}

/// Low-rank adapters (LoRA).
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Adapters {
    /// Rank.
    #[schemars(range(min = 1, max = COUNT_MOST))]
    pub r: u64,
    /// The delta is scaled by `alpha / r`, or `alpha / sqrt(r)` under rsLoRA.
    #[schemars(extend("exclusiveMinimum" = 0))]
    pub alpha: f64,
    /// Rank-stabilised scaling (rsLoRA).
    #[serde(default)]
    pub rs: bool,
    /// The linears that get an adapter, by name: `q`, `k`, `v`, `o`, `up`, `down`.
    #[schemars(length(min = 1), extend("items" = {"enum": ADAPTER_TARGETS}))]
    pub targets: Vec<String>,
}

/// How the rows of one sample go through the model.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Forward {
    /// Anchor, positive and negative in one forward.
    #[default]
    Concatenated,
    /// One forward each.
    Separate,
}

/// The model.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Model {
    /// A size by name: `tiny` for counting, `small` for numbers.
    pub size: String,
}

/// Where to resume.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Start {
    /// A folder of checkpoints: the newest good one is taken.
    pub from: PathBuf,
    /// What is taken: all of the training state, or the trained weights alone.
    #[serde(default)]
    pub what: Restore,
}

/// What a start takes from a checkpoint.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Restore {
    /// Everything: the run goes on.
    #[default]
    Everything,
    /// Adapters and heads, as published: a new run begins from them.
    Weights,
}

/// Where to stop.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Stop {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Micro-batches of that epoch that are done.
    pub micro_batches: u64,
    /// The folder that gets a checkpoint; null saves nothing.
    #[serde(default)]
    pub save: Option<PathBuf>,
}

/// A place in training.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum Boundary {
    /// After an update.
    Update,
    /// At both edges of an epoch.
    Epoch,
    /// After an evaluation.
    Evaluation,
    /// After a checkpoint was written.
    Checkpoint,
    /// After the first micro-batch's forward and backward.
    Forward,
    /// After a model of `cycles` was loaded and used.
    Load,
    /// After it was unloaded.
    Unload,
    /// Before a device is chosen, after each that was given up, and after the run has adapted to what it may use.
    Adaptation,
}

/// A forward outside training, dropout off, nothing changed by it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Probe {
    /// Its name in the trace.
    pub name: String,
    /// When it is made.
    #[serde(default)]
    pub at: ProbeAt,
    /// Training samples, in this order, as one batch.
    #[schemars(length(min = 1))]
    pub samples: Vec<u64>,
    /// Padding in place of the plan's.
    #[serde(default)]
    pub padding: Option<Padding>,
    /// Number format in place of the plan's.
    #[serde(default)]
    pub dtype: Option<Dtype>,
    /// Decode token by token with a key-value cache instead of in one forward.
    #[serde(default)]
    pub cached: bool,
    /// Also take the gradients of the batch's loss.
    #[serde(default)]
    pub gradients: bool,
}

/// When a probe is made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "snake_case")]
pub enum ProbeAt {
    /// Before the first micro-batch, after any load.
    #[default]
    Start,
    /// After the last micro-batch, before any save.
    End,
    /// After both.
    Both,
}

/// A small plan that every test may begin from.
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub fn example() -> Plan {
    let text = r#"{"schema":1,"scenario":"example","run":"whole","seed":7,
        "data":{"samples":[[1,10,2],[1,11,12,2],[1,13,2]],"evaluation":[[1,14,2]],
            "tokens":{"pad":3,"bos":1,"eos":2,"vocabulary":32},"batch":2,"epochs":2,"shuffle":true,
            "padding":{"policy":"longest","side":"right","multiple_of":1},"max_length":16,"drop_last":false},
        "train":{"accumulation":2,"optimizer":{"name":"adamw","lr":1e-3,"betas":[0.9,0.999],"eps":1e-8,"decay":0.01},
            "clip":1.0,"schedule":{"name":"linear","warmup":1},"dropout":0.1,
            "adapters":{"r":4,"alpha":16,"rs":true,"targets":["q","v"]},"heads":["projection"]},
        "model":{"size":"tiny"},"stop":{"epoch":0,"micro_batches":1},"evaluate_every":4,
        "devices":[{"device":"cuda:0"},{}],"probes":[{"name":"rows:all","samples":[0,1,2]}]}"#;
    Plan::parse(text).expect("the example is a plan")
}
