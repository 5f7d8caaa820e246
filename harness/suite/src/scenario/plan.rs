//! The plan of a scenario file: as in a plan that a trainer gets, but the data are counts, not yet tokens.

use std::borrow::Cow;

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};
use traintrue_protocol::contract::Asked;
use traintrue_protocol::plan::{
    Boundary, COUNT_MOST, DeviceChoice, MemoryLimit, Model, Padding, Probe, Train,
};

use super::corpus::PIECE_LEAST_BYTES;
use super::file::{RunSpec, Scenario};

/// More samples than a plan could carry as literal data.
const SAMPLES_MOST: u64 = 1_000_000;

/// A plan, or the part of a plan that a run changes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlanSpec {
    /// Seed of initial weights, data order and dropout.
    pub seed: u64,
    /// The samples, by number and size.
    pub data: DataSpec,
    /// How the batches become updates.
    pub train: Train,
    /// The model.
    pub model: Model,
    /// Evaluate after every so many updates.
    #[serde(default)]
    #[schemars(range(min = 1, max = COUNT_MOST))]
    pub evaluate_every: Option<u64>,
    /// Save after every so many updates. The harness chooses the folder.
    #[serde(default)]
    #[schemars(range(min = 1, max = COUNT_MOST))]
    pub save_every: Option<u64>,
    /// Write a `state` event after every so many updates.
    #[serde(default)]
    #[schemars(range(min = 1, max = COUNT_MOST))]
    pub state_every: Option<u64>,
    /// The boundaries at which memory is sampled.
    #[serde(default)]
    pub sample_memory: Vec<Boundary>,
    /// Forward passes outside training, whose outputs the trace shows.
    #[serde(default)]
    pub probes: Vec<Probe>,
    /// Probes with gradients of the first so many windows, named `window:1` and on. They take the samples in file order, so
    /// they fit the windows of a plan without `shuffle`.
    #[serde(default)]
    pub window_probes: u64,
    /// Before training, do each operation of the model by itself, and tell what it gives.
    #[serde(default)]
    pub operations: bool,
    /// Devices to compute on, the preferred one first; an empty list leaves the choice to the trainer.
    #[serde(default)]
    pub devices: Vec<DeviceChoice>,
    /// Models to load, to use for the probes and to unload, one after another, before training.
    #[serde(default)]
    pub cycles: Vec<Model>,
    /// Conventions asked for in place of the trainer's own.
    #[serde(default)]
    pub contract: Asked,
    /// The memory that the run may take, and what it does above.
    #[serde(default)]
    pub memory: Option<MemoryLimit>,
}

/// Samples by number and size, cut from the corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// Training samples.
    #[schemars(range(min = 1, max = SAMPLES_MOST))]
    pub samples: u64,
    /// Evaluation samples.
    #[serde(default)]
    pub evaluation: u64,
    /// Texts are cut at word ends into pieces of at most this many bytes, one piece per sample.
    #[schemars(range(min = PIECE_LEAST_BYTES))]
    pub piece_bytes: u64,
    /// The piece of the corpus that the first sample is.
    #[serde(default)]
    pub offset: u64,
    /// Ids of samples without a token.
    #[serde(default)]
    pub empty: Vec<u64>,
    /// Ids of samples that also get the text of every sample after them.
    #[serde(default)]
    pub long: Vec<u64>,
    /// Samples per micro-batch.
    #[schemars(range(min = 1, max = COUNT_MOST))]
    pub batch: u64,
    /// Passes over the samples.
    #[schemars(range(min = 1, max = COUNT_MOST))]
    pub epochs: u64,
    /// Whether each epoch has its own seeded order.
    pub shuffle: bool,
    /// How rows reach one width.
    pub padding: Padding,
    /// Longer samples are cut to this many tokens, keeping their last token.
    #[schemars(range(min = 2, max = COUNT_MOST))]
    pub max_length: u64,
    /// Whether an epoch's last, smaller micro-batch is left out.
    #[serde(default)]
    pub drop_last: bool,
}

impl Scenario {
    /// The plan of one run: the scenario's, with the run's `with` laid over it. Fails with what is wrong.
    pub fn plan_spec(&self, run: &RunSpec) -> Result<PlanSpec, String> {
        let mut table = self.plan.clone();
        lay_over(&mut table, &run.with);
        let mut spec: PlanSpec = serde_path_to_error::deserialize(toml::Value::Table(table))
            .map_err(|error| format!("{}: {}", error.path(), error.inner().message()))?;
        spec.check()?;
        if run.one_batch {
            spec.data.batch = spec.data.batch.saturating_mul(spec.train.accumulation);
            spec.train.accumulation = 1;
        }
        Ok(spec)
    }
}

impl PlanSpec {
    /// Checks what the literal plan does not show any more. The rest is checked with the literal plan.
    fn check(&self) -> Result<(), String> {
        let data = &self.data;
        if data.piece_bytes < PIECE_LEAST_BYTES {
            return Err(format!(
                "data.piece_bytes: {}, expected at least {PIECE_LEAST_BYTES}",
                data.piece_bytes
            ));
        }
        if data.samples.saturating_add(data.evaluation) > SAMPLES_MOST {
            return Err(format!("data.samples: {}, expected at most {SAMPLES_MOST}", data.samples));
        }
        for (field, ids) in [("empty", &data.empty), ("long", &data.long)] {
            if let Some(id) = ids.iter().find(|&&id| id >= data.samples) {
                return Err(format!("data.{field}: {id}, expected ids below data.samples, {}", data.samples));
            }
        }
        Ok(())
    }
}

fn lay_over(base: &mut toml::Table, with: &toml::Table) {
    for (key, value) in with {
        match (base.get_mut(key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(over)) => lay_over(inner, over),
            _ => {
                base.insert(key.clone(), value.clone());
            }
        }
    }
}

/// In JSON Schema, a [`PlanSpec`] of which any field may be missing: `plan` and a run's `with` are whole only together.
pub(super) struct PlanPart;

impl JsonSchema for PlanPart {
    fn schema_name() -> Cow<'static, str> {
        "PlanPart".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        // Inline, because a type that is whole elsewhere, such as a probe's padding, must stay whole there.
        let settings = SchemaSettings::draft2020_12().with(|settings| settings.inline_subschemas = true);
        let mut schema = settings.into_generator().into_root_schema_for::<PlanSpec>();
        schema.remove("$schema");
        schema.remove("title");
        schema.as_object_mut().into_iter().for_each(make_optional);
        schema
    }
}

/// Lists are left alone: laying over replaces them, so that their items are whole.
fn make_optional(schema: &mut Map<String, Value>) {
    schema.remove("required");
    let fields = schema.get_mut("properties").and_then(Value::as_object_mut);
    fields.into_iter().flat_map(Map::values_mut).filter_map(Value::as_object_mut).for_each(make_optional);
}
