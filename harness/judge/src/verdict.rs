//! Verdicts: `broken` over `not judged` over `waived` over `held`.
//!
//! Not judged has a reason and is never a pass. An invariant that compared nothing is not judged.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::str::FromStr;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use traintrue_protocol::contract::Contract;
use traintrue_protocol::exit::Exit;
use traintrue_protocol::plan::SCHEMA;

use crate::finding::{Broken, Finding};
use crate::rule::RunEvidence;

/// The result of a scenario, from best to worst: the order matters.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every comparison holds.
    Held,
    /// Comparisons failed or could not be made, and a waiver covers all of them.
    Waived,
    /// Something could not be compared.
    NotJudged,
    /// A comparison failed.
    Broken,
}

/// One scenario, or one recorded trace, judged.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    /// The scenario's id.
    pub scenario: String,
    /// The verdict.
    pub verdict: Verdict,
    /// Why the scenario, or a part of it, was not judged.
    pub reason: Option<String>,
    /// Comparisons made, by invariant.
    pub compared: BTreeMap<String, u64>,
    /// Counts for the report: runs, updates, micro-batches, positions, tokens.
    #[serde(default)]
    pub counted: BTreeMap<String, u64>,
    /// What a recorded loop is held to, each with who said it: `windows of 4 micro-batches (observed)`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub observed: Vec<String>,
    /// Notes for the reader, such as a repeated corpus or a bound that was used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// One finding per broken invariant and run.
    pub findings: Vec<Finding>,
    /// Wall time of the runs and of judging them.
    pub seconds: f64,
    /// The trace files that were kept.
    #[serde(skip)]
    pub traces: Vec<PathBuf>,
    /// The runs that were compared with another run, if their traces were kept.
    #[serde(skip)]
    pub pairs: Vec<Pair>,
}

/// Two runs that one invariant compared.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Pair {
    /// The invariant, as `family/name`.
    pub invariant: String,
    /// The run that was judged.
    pub run: RunEvidence,
    /// The run that it was held against.
    pub against: RunEvidence,
    /// Comparisons made.
    pub compared: u64,
    /// The update of the other run that a resumed recording goes on from. Its own trace counts from 1 again.
    pub resumed_from: Option<u64>,
    /// The first comparison that failed.
    pub broken: Option<Broken>,
}

impl Verdict {
    /// The verdict as reports show it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Waived => "waived",
            Self::NotJudged => "not judged",
            Self::Broken => "broken",
        }
    }
}

impl Outcome {
    /// The outcome of a scenario that could not be run.
    pub fn not_judged(scenario: &str, reason: String) -> Self {
        Self {
            scenario: scenario.to_owned(),
            verdict: Verdict::NotJudged,
            reason: Some(reason),
            compared: BTreeMap::new(),
            counted: BTreeMap::new(),
            observed: Vec::new(),
            notes: Vec::new(),
            findings: Vec::new(),
            seconds: 0.0,
            traces: Vec::new(),
            pairs: Vec::new(),
        }
    }
}

/// One of several equal parts of what there is to do: every `of`-th scenario, from the `number`-th on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Part {
    number: usize,
    of: usize,
}

/// A part that there is not.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0:?} is no part; expected slice:NUMBER/OF, as slice:2/3, with a NUMBER from 1 to OF")]
pub struct PartError(String);

impl Part {
    /// What belongs to this part, in its order.
    pub fn of<T>(self, all: Vec<T>) -> Vec<T> {
        all.into_iter().skip(self.number - 1).step_by(self.of).collect()
    }

    /// The first part that is not among `found`, which are parts of as many; none where each is there once.
    pub fn missing(found: &[Self]) -> Option<Self> {
        let of = found.first()?.of;
        let parts = (1..=of).map(|number| Self { number, of });
        parts.into_iter().find(|part| found.iter().filter(|other| *other == part).count() != 1)
    }

    /// Whether both are parts of one division.
    pub fn is_beside(self, other: Self) -> bool {
        self.of == other.of
    }
}

impl FromStr for Part {
    type Err = PartError;

    fn from_str(text: &str) -> Result<Self, PartError> {
        let numbers = text.strip_prefix("slice:").and_then(|it| it.split_once('/'));
        let parsed = numbers.and_then(|(number, of)| Some((number.parse().ok()?, of.parse().ok()?)));
        match parsed {
            Some((number, of)) if (1..=of).contains(&number) => Ok(Self { number, of }),
            _ => Err(PartError(text.to_owned())),
        }
    }
}

impl TryFrom<String> for Part {
    type Error = PartError;

    fn try_from(text: String) -> Result<Self, PartError> {
        text.parse()
    }
}

impl From<Part> for String {
    fn from(part: Part) -> Self {
        part.to_string()
    }
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "slice:{}/{}", self.number, self.of)
    }
}

/// What the scenario of a loop is called that follows no plan.
const RECORDED: &str = "recorded";

/// The document of `run` and `check`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The version of this document.
    pub schema: u32,
    /// Name and version of the trainer.
    pub trainer: String,
    /// The conventions that the verdicts are relative to.
    pub contract: Contract,
    /// Notes that concern every verdict: conventions that the user stated, scenarios that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// Scenario files that cannot be used, each with its file and line. The other scenarios are in `outcomes`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub errors: Vec<String>,
    /// Which part of all scenarios these are; absent where they are all that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// One outcome per scenario, in the order in which they ran.
    pub outcomes: Vec<Outcome>,
    /// The number of outcomes per verdict.
    pub summary: Summary,
}

impl RunReport {
    /// The report of these outcomes, without notes and errors.
    pub fn new(trainer: String, contract: Contract, outcomes: Vec<Outcome>) -> Self {
        Self {
            schema: SCHEMA,
            trainer,
            contract,
            notes: Vec::new(),
            errors: Vec::new(),
            part: None,
            summary: Summary::of(&outcomes),
            outcomes,
        }
    }

    /// The conventions as text; none where every trace is of a recorded loop, whose conventions nobody has said.
    pub fn conventions(&self) -> Option<String> {
        let of_plans = self.outcomes.iter().any(|it| it.scenario != RECORDED);
        (of_plans || self.outcomes.is_empty()).then(|| self.contract.to_string())
    }

    /// The exit status of `run` and `check`.
    pub fn exit(&self) -> Exit {
        let errors = if self.errors.is_empty() { Exit::Held } else { Exit::Request };
        errors.worst(self.summary.exit())
    }
}

/// The number of outcomes per verdict.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Summary {
    pub held: u64,
    pub broken: u64,
    pub not_judged: u64,
    #[serde(default, skip_serializing_if = "is_none")]
    pub waived: u64,
}

fn is_none(count: &u64) -> bool {
    *count == 0
}

impl fmt::Display for Summary {
    /// `2 held, 1 broken, 0 not judged`, and the number of waived outcomes if there are any.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} held, {} broken, {} not judged", self.held, self.broken, self.not_judged)?;
        if self.waived > 0 { write!(f, ", {} waived", self.waived) } else { Ok(()) }
    }
}

impl Summary {
    /// The exit status of the verdicts alone.
    pub fn exit(&self) -> Exit {
        match self {
            Self { broken: 1.., .. } => Exit::Broken,
            Self { not_judged: 1.., .. } => Exit::NotJudged,
            _ => Exit::Held,
        }
    }

    /// Counts the verdicts of `outcomes`.
    pub fn of(outcomes: &[Outcome]) -> Self {
        let mut summary = Self::default();
        for outcome in outcomes {
            match outcome.verdict {
                Verdict::Held => summary.held += 1,
                Verdict::NotJudged => summary.not_judged += 1,
                Verdict::Broken => summary.broken += 1,
                Verdict::Waived => summary.waived += 1,
            }
        }
        summary
    }
}

/// The time since `begun`, in seconds to the millisecond.
pub fn seconds_since(begun: Instant) -> f64 {
    (begun.elapsed().as_secs_f64() * 1e3).round() / 1e3
}
