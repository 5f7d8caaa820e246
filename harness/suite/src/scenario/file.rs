//! The TOML file of one scenario, as types. The comments here are what an editor shows: the JSON Schema is made from them.

use std::collections::BTreeMap;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use traintrue_judge::expectation::{Expectation, InvariantName};
use traintrue_judge::rule::run_name;
use traintrue_protocol::plan::{Restore, SCHEMA};
use traintrue_protocol::vocabulary::{Capability, Component};

use super::plan::PlanPart;
use super::version::Version;

/// One bug class: the runs to make, what must hold over them, and the faults that must break it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The version of this format.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: u32,
    /// The name: letters, digits, `-` and `_`. The file has the same name.
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]+$"))]
    pub id: String,
    /// The release that the scenario came with; absent is the first. `catalogue` in `traintrue.toml` leaves out newer ones.
    #[serde(default)]
    #[schemars(with = "String", regex(pattern = r"^\d+\.\d+\.\d+$"))]
    pub since: Version,
    /// The place in the catalogue: scenarios are run and listed by rising order, then by id.
    #[serde(default)]
    pub order: u32,
    /// What must be true, in one line.
    pub title: String,
    /// The bug class, for lists.
    pub class: String,
    /// The bug, in a paragraph.
    pub bug: String,
    /// What it costs to miss the bug.
    pub cost: String,
    /// What the suite found out about reports of this bug.
    #[serde(default)]
    pub settles: String,
    /// Public threads that report the bug.
    #[serde(default)]
    pub threads: Vec<Thread>,
    /// What a trainer must be able to do. Without it the scenario is not judged.
    #[serde(default)]
    pub needs: Vec<Capability>,
    /// The plan that every run begins from. A run's `with` changes or completes it.
    #[schemars(with = "PlanPart")]
    pub plan: toml::Table,
    /// The runs to make, in order.
    #[schemars(length(min = 1))]
    pub runs: Vec<RunSpec>,
    /// What must hold over the runs, beside what must hold over every trace.
    #[serde(rename = "holds", default)]
    pub expectations: Vec<Expectation>,
    /// The faults that must break the scenario.
    #[serde(default)]
    pub faults: Vec<PlannedFault>,
    /// For random plans: a dotted path into the plan, and the values to choose from.
    #[serde(default)]
    #[schemars(with = "BTreeMap<String, Vec<serde_json::Value>>")]
    pub random: BTreeMap<String, Vec<toml::Value>>,
}

/// A public thread.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Thread {
    /// `project#number`, or `report 5`.
    pub id: String,
    /// What happened there.
    pub what: String,
}

/// One run, or with `each_cut_after` one run per cut.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct RunSpec {
    /// The name: letters, digits, `-` and `_`. With `each_cut_after`, `{}` stands for the cut.
    #[schemars(regex(pattern = r"^([A-Za-z0-9_-]|\{\})+$"))]
    pub name: String,
    /// Changes to the scenario's plan. Tables are merged; a list or a value replaces the one of the plan.
    #[serde(default)]
    #[schemars(with = "PlanPart")]
    pub with: toml::Table,
    /// Stop, save and resume in a fresh process, at each of these in turn.
    #[serde(default)]
    pub cuts: Vec<Cut>,
    /// One run per value, each with one cut after that many micro-batches of `epoch`.
    #[serde(default)]
    pub each_cut_after: Option<EachCut>,
    /// A whole accumulation window as one micro-batch: `batch` is multiplied by `accumulation`, which becomes 1.
    #[serde(default)]
    pub one_batch: bool,
    /// Where the run ends; absent is the end of the last epoch.
    #[serde(default)]
    pub until: Option<Cut>,
    /// What a resumed process takes from the checkpoint.
    #[serde(default)]
    pub restore: Restore,
    /// The process that resumes dies while it saves, at many places: one run per place.
    #[serde(default)]
    pub deaths: Option<Deaths>,
    /// What is done to the newest checkpoint before the last process starts.
    #[serde(default)]
    pub damage: Option<Damage>,
    /// The last process cannot go on: it must end with an error of its own, and write it in its trace.
    #[serde(default)]
    pub fails: bool,
    /// The first process may hold no more bytes than this, and must run out of memory; a fresh one without a limit goes on.
    #[serde(default)]
    pub limit_bytes: Option<u64>,
}

/// A place between two micro-batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Cut {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Micro-batches of the epoch that are done.
    pub micro_batches: u64,
}

/// Many cuts in one epoch.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct EachCut {
    /// The epoch, from 0.
    pub epoch: u64,
    /// Micro-batches of the epoch that are done: one run per value.
    pub micro_batches: Vec<u64>,
}

/// How a process dies while it saves.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case", tag = "how", deny_unknown_fields)]
pub enum Deaths {
    /// Before each file operation of the second process in turn. What was written stays.
    BeforeEachOperation,
    /// The same, and what was not synced is lost, as in a power cut.
    PowerCut,
    /// SIGKILL at `count` moments spread over the second process.
    Killed {
        /// The number of moments.
        count: u64,
    },
}

/// What is done to a file of the newest checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Damage {
    /// The file, relative to the checkpoint's folder.
    pub file: String,
    /// What is done to the file.
    pub how: DamageKind,
}

/// Ways to damage a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum DamageKind {
    /// One bit in the last quarter is flipped.
    FlipBit,
    /// The second half is cut off.
    Truncate,
    /// The file is removed.
    Remove,
}

/// A known bug, planted in the reference trainer, that must break this scenario.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct PlannedFault {
    /// The name that the trainer knows the fault by.
    #[schemars(regex(pattern = "^[A-Za-z0-9_-]+$"))]
    pub id: String,
    /// What is wrong, in a sentence.
    pub what: String,
    /// The component that a finding should name.
    pub component: Component,
    /// Invariants that must break.
    #[schemars(with = "Vec<InvariantName>")]
    pub must: Vec<String>,
    /// Invariants that may break too.
    #[serde(default)]
    #[schemars(with = "Vec<InvariantName>")]
    pub may: Vec<String>,
    /// The runs to make under the fault, each a name or a prefix and `*`; empty is all of them.
    #[serde(default)]
    pub runs: Vec<String>,
}

impl RunSpec {
    /// The names of the runs that this entry stands for: one per value of `each_cut_after`, which takes the place of `{}`.
    pub(super) fn names(&self) -> Vec<String> {
        match &self.each_cut_after {
            Some(each) => each.micro_batches.iter().map(|&at| self.name_after(at)).collect(),
            None => vec![self.name.clone()],
        }
    }

    /// The name of the run that is cut after this many micro-batches.
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
    /// Whether the run of this name leaves exactly one trace.
    pub fn has_run_of_one_process(&self, name: &str) -> bool {
        self.runs.iter().any(|run| run.name == run_name(name) && run.is_one_process())
    }
}
