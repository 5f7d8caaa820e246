//! Verdicts: `broken` over `not judged` over `waived` over `held`.
//!
//! Not judged has a reason and is never a pass; an invariant that compared nothing is not judged.

use std::collections::BTreeMap;
use std::fmt;
use std::path::PathBuf;
use std::time::Instant;

use serde::{Deserialize, Serialize};
use traintrue_protocol::contract::Contract;
use traintrue_protocol::exit::Exit;

use crate::finding::Finding;

/// What a scenario came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Every comparison holds.
    Held,
    /// Comparisons failed or could not be made, which is known and waived.
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
    /// Why it, or a part of it, was not judged.
    pub reason: Option<String>,
    /// Comparisons made, by invariant.
    pub compared: BTreeMap<String, u64>,
    /// What was counted on the way: runs, updates, micro-batches, positions, tokens.
    #[serde(default)]
    pub counted: BTreeMap<String, u64>,
    /// What a reader should know: a repeated corpus, a bound that was used.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// One a broken invariant and run.
    pub findings: Vec<Finding>,
    /// Wall time of its runs and its judging.
    pub seconds: f64,
    /// The traces that were kept of its runs.
    #[serde(skip)]
    pub traces: Vec<PathBuf>,
}

impl Verdict {
    /// Its name, as people read it.
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
    /// A scenario that could not even be run, and why.
    pub fn not_judged(scenario: &str, reason: String) -> Self {
        Self {
            scenario: scenario.to_owned(),
            verdict: Verdict::NotJudged,
            reason: Some(reason),
            compared: BTreeMap::new(),
            counted: BTreeMap::new(),
            notes: Vec::new(),
            findings: Vec::new(),
            seconds: 0.0,
            traces: Vec::new(),
        }
    }
}

/// The document of `run` and `check`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct RunReport {
    /// The version of this document.
    pub schema: u32,
    /// Name and version of the trainer.
    pub trainer: String,
    /// The conventions that the verdicts are relative to.
    pub contract: Contract,
    /// What a reader of every verdict should know: conventions that a user stated, scenarios that were left out.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub notes: Vec<String>,
    /// One a scenario, in order.
    pub outcomes: Vec<Outcome>,
    /// How many of each verdict.
    pub summary: Summary,
}

/// How many of each verdict.
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
    /// `2 held, 1 broken, 0 not judged`, and what was waived where something was.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{} held, {} broken, {} not judged", self.held, self.broken, self.not_judged)?;
        if self.waived > 0 { write!(f, ", {} waived", self.waived) } else { Ok(()) }
    }
}

impl Summary {
    /// The exit status of `run` and `check`.
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
