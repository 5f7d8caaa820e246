//! The TOML file of one scenario, parsed and checked.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use traintrue_judge::expectation::Expectation;
use traintrue_protocol::contract::Asked;
use traintrue_protocol::plan::{
    Boundary, DeviceChoice, MemoryLimit, Model, Padding, Probe, Restore, SCHEMA, Train,
};
use traintrue_protocol::vocabulary::{Capability, Component};

use super::corpus::PIECE_LEAST_BYTES;
use super::version::Version;

/// More samples than a plan could carry as literal data.
const SAMPLES_MOST: u64 = 1_000_000;

/// One scenario.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The version of this format.
    pub schema: u32,
    /// Its name, a slug; the file is called so.
    pub id: String,
    /// The release that it came with; absent is the first. A user may pin the catalogue to a release.
    #[serde(default)]
    pub since: Version,
    /// Its place in the catalogue: scenarios are run and listed by rising order, then by name.
    #[serde(default)]
    pub order: u32,
    /// What must be true, in one line.
    pub title: String,
    /// The bug class.
    pub class: String,
    /// The bug, in a paragraph.
    pub bug: String,
    /// What it costs to miss it.
    pub cost: String,
    /// What the suite found out about the reports that it was born from.
    #[serde(default)]
    pub settles: String,
    /// Public threads where it bit.
    #[serde(default)]
    pub threads: Vec<Thread>,
    /// What a trainer must be able to do.
    #[serde(default)]
    pub needs: Vec<Capability>,
    /// The plan that every run begins from, as a table: a run's `with` is laid over it.
    pub plan: toml::Table,
    /// The runs to make, in order.
    pub runs: Vec<RunSpec>,
    /// What must hold over them, beside what must hold over every trace.
    #[serde(rename = "holds", default)]
    pub expectations: Vec<Expectation>,
    /// The faults that must break it.
    #[serde(default)]
    pub faults: Vec<PlannedFault>,
    /// For random plans: a dotted path into the plan, and the values to choose from.
    #[serde(default)]
    pub random: std::collections::BTreeMap<String, Vec<toml::Value>>,
}

/// A public thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Thread {
    /// `project#number`, or `report 5`.
    pub id: String,
    /// What happened there.
    pub what: String,
}

/// One run, or one a cut.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// Its name; with `each_cut_after`, the name's `{}` is the cut.
    pub name: String,
    /// Laid over the scenario's plan.
    #[serde(default)]
    pub with: toml::Table,
    /// Stop, save and go on in a fresh process, at each of these in turn.
    #[serde(default)]
    pub cuts: Vec<Cut>,
    /// One run a value, each with one cut after so many micro-batches of `epoch`.
    #[serde(default)]
    pub each_cut_after: Option<EachCut>,
    /// A whole window as one micro-batch: the batch is multiplied by the accumulation, which becomes 1.
    #[serde(default)]
    pub one_batch: bool,
    /// Where the run ends; absent goes to the end.
    #[serde(default)]
    pub until: Option<Cut>,
    /// What a resumed segment takes from the checkpoint.
    #[serde(default)]
    pub restore: Restore,
    /// The process dies while it saves, at many places; one run a place.
    #[serde(default)]
    pub deaths: Option<Deaths>,
    /// What is done to the newest checkpoint between the segments.
    #[serde(default)]
    pub damage: Option<Damage>,
    /// Its last process cannot go on: it must end with an error of its own, and say so.
    #[serde(default)]
    pub fails: bool,
    /// Its first process may hold no more than so much, and must run out of it; a fresh one without a limit goes on.
    #[serde(default)]
    pub limit_bytes: Option<u64>,
}

/// A place between two micro-batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Micro-batches of it that are done.
    pub micro_batches: u64,
}

/// Many cuts in one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct EachCut {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Micro-batches of it that are done: one run each.
    pub micro_batches: Vec<u64>,
}

/// How a process dies while it saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "how", deny_unknown_fields)]
pub enum Deaths {
    /// Before each file operation of the second segment in turn; what was written stays.
    BeforeEachOperation,
    /// The same, and whatever was not synced is lost, as in a power cut.
    PowerCut,
    /// SIGKILL at `count` moments spread over the second segment.
    Killed {
        /// How many moments.
        count: u64,
    },
}

/// What is done to a file of the newest checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Damage {
    /// The file within the checkpoint's folder.
    pub file: String,
    /// What is done to it.
    pub how: DamageKind,
}

/// Ways to damage a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DamageKind {
    /// One bit in the last quarter is flipped.
    FlipBit,
    /// The second half is cut off.
    Truncate,
    /// It is removed.
    Remove,
}

/// A fault that must break this scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlannedFault {
    /// Its id, a slug; the trainer knows it by this.
    pub id: String,
    /// What is wrong, in a sentence.
    pub what: String,
    /// The component that a finding should name.
    pub component: Component,
    /// Invariants that must break.
    pub must: Vec<String>,
    /// Invariants that may break too.
    #[serde(default)]
    pub may: Vec<String>,
    /// The runs to make under it; empty is all of them.
    #[serde(default)]
    pub runs: Vec<String>,
}

/// The scenario's plan as the file has it: data are counts, not yet tokens.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PlanSpec {
    /// Seed of everything.
    pub seed: u64,
    /// The samples, by number and size.
    pub data: DataSpec,
    /// As in a plan.
    pub train: Train,
    /// As in a plan.
    pub model: Model,
    /// As in a plan.
    #[serde(default)]
    pub evaluate_every: Option<u64>,
    /// As in a plan; the folder is the harness's to choose.
    #[serde(default)]
    pub save_every: Option<u64>,
    /// As in a plan.
    #[serde(default)]
    pub state_every: Option<u64>,
    /// As in a plan.
    #[serde(default)]
    pub sample_memory: Vec<Boundary>,
    /// As in a plan.
    #[serde(default)]
    pub probes: Vec<Probe>,
    /// So many of the first windows get a probe with gradients, `window:1` and on: their samples where nothing shuffles.
    #[serde(default)]
    pub window_probes: u64,
    /// As in a plan.
    #[serde(default)]
    pub devices: Vec<DeviceChoice>,
    /// As in a plan.
    #[serde(default)]
    pub cycles: Vec<Model>,
    /// As in a plan.
    #[serde(default)]
    pub contract: Asked,
    /// As in a plan.
    #[serde(default)]
    pub memory: Option<MemoryLimit>,
}

/// Samples by number and size, cut from the corpus.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DataSpec {
    /// Training samples.
    pub samples: u64,
    /// Evaluation samples.
    #[serde(default)]
    pub evaluation: u64,
    /// Texts are cut at word ends into pieces of at most so many bytes.
    pub piece_bytes: u64,
    /// The piece of the corpus that the first sample is.
    #[serde(default)]
    pub offset: u64,
    /// Ids of samples that are replaced by an empty one.
    #[serde(default)]
    pub empty: Vec<u64>,
    /// Ids of samples that also get the text of the samples after them, of all that there are.
    #[serde(default)]
    pub long: Vec<u64>,
    /// As in a plan.
    pub batch: u64,
    /// As in a plan.
    pub epochs: u64,
    /// As in a plan.
    pub shuffle: bool,
    /// As in a plan.
    pub padding: Padding,
    /// As in a plan.
    pub max_length: u64,
    /// As in a plan.
    #[serde(default)]
    pub drop_last: bool,
}

/// A scenario file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ScenarioError {
    #[error("{path}:{line}: {message}", path = .path.display())]
    Toml { path: PathBuf, line: usize, message: String },
    #[error("{path}: schema {found}, this command reads schema {SCHEMA}", path = .path.display())]
    Schema { path: PathBuf, found: u32 },
    #[error("{path}: {field}: {problem}", path = .path.display())]
    Field { path: PathBuf, field: String, problem: String },
}

/// Traces and checkpoints are files of this name.
fn is_file_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !name.is_empty() && name.chars().all(fits)
}

impl RunSpec {
    /// The names of the runs that it stands for: one a value of `each_cut_after`, which takes the place of `{}`.
    fn names(&self) -> Vec<String> {
        match &self.each_cut_after {
            Some(each) => each.micro_batches.iter().map(|&at| self.name_after(at)).collect(),
            None => vec![self.name.clone()],
        }
    }

    /// The name of the run that is cut after so many micro-batches.
    pub(super) fn name_after(&self, micro_batches: u64) -> String {
        self.name.replace("{}", &micro_batches.to_string())
    }

    /// Whether one process makes the run: it is not cut, and nothing kills it.
    fn is_one_process(&self) -> bool {
        let cut = !self.cuts.is_empty() || self.each_cut_after.is_some();
        !cut && self.deaths.is_none() && self.limit_bytes.is_none()
    }
}

impl Scenario {
    /// Whether one trace is all that the run of this name leaves.
    pub fn has_run_of_one_process(&self, name: &str) -> bool {
        self.runs.iter().any(|run| run.name == name && run.is_one_process())
    }

    /// Parses and checks the text of one file; `path` is for messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = toml::from_str(text).map_err(|error| ScenarioError::Toml {
            path: path.to_owned(),
            line: line_of(text, error.span()),
            message: error.message().to_owned(),
        })?;
        if scenario.schema != SCHEMA {
            return Err(ScenarioError::Schema { path: path.to_owned(), found: scenario.schema });
        }
        let field = |field: &str, problem: String| {
            Err(ScenarioError::Field { path: path.to_owned(), field: field.to_owned(), problem })
        };
        if scenario.runs.is_empty() {
            return field("runs", "there is none; a scenario makes at least one run".into());
        }
        let faults = scenario.faults.iter().map(|fault| ("faults.id", fault.id.clone()));
        let runs = || scenario.runs.iter().flat_map(RunSpec::names);
        let names = [("id", scenario.id.clone())].into_iter().chain(faults);
        for (of, name) in names.chain(runs().map(|name| ("runs.name", name))) {
            if !is_file_name(&name) {
                return field(of, format!("{name:?}, expected letters, digits, - and _"));
            }
        }
        let mut seen = BTreeSet::new();
        if let Some(twice) = runs().find(|name| !seen.insert(name.clone())) {
            return field("runs.name", format!("{twice:?} is there twice"));
        }
        for run in &scenario.runs {
            if let Err(problem) = scenario.plan_spec(run) {
                return field(&format!("runs.{}", run.name), problem);
            }
        }
        Ok(scenario)
    }

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
    /// Checks what a plan cannot show any more; the rest is the plan's own check.
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

/// The line of a place in a text, from 1.
pub(crate) fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    let end = span.map_or(0, |span| span.start.min(text.len()));
    text.as_bytes()[..end].iter().filter(|&&byte| byte == b'\n').count() + 1
}
