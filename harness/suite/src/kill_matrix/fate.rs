//! What happens to planted faults: the rows of the kill matrix.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use traintrue_judge::verdict::{Part, Verdict};
use traintrue_protocol::exit::Exit;
use traintrue_protocol::plan::SCHEMA;

/// What happened to one planted fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Fate {
    /// Every invariant that must break did, and nothing outside `must` and `may`.
    Caught,
    /// An invariant that must break held.
    Missed,
    /// Something broke that is on neither list.
    Noisy,
    /// Its traces are those of the clean trainer.
    Unviable,
    /// It did not end in time.
    Timeout,
}

impl Fate {
    /// Every fate, the good one first.
    pub const ALL: [Self; 5] = [Self::Caught, Self::Missed, Self::Noisy, Self::Unviable, Self::Timeout];

    /// Its name, as reports have it.
    pub fn name(self) -> &'static str {
        match self {
            Self::Caught => "caught",
            Self::Missed => "missed",
            Self::Noisy => "noisy",
            Self::Unviable => "unviable",
            Self::Timeout => "timeout",
        }
    }
}

/// A row of the kill matrix.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultOutcome {
    /// The fault's id.
    pub fault: String,
    /// The bug class: its scenario's.
    pub class: String,
    /// The scenario it was tried on.
    pub scenario: String,
    /// What came of it.
    pub verdict: Fate,
    /// Invariants that must break.
    pub expected: Vec<String>,
    /// Invariants that may.
    pub may: Vec<String>,
    /// Invariants that broke.
    pub broke: Vec<String>,
    /// The component that the findings of the must invariants name.
    pub component: String,
    /// Random plans on which it was caught, of those tried.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub random: Option<Share>,
}

/// So many of so many.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names say it")]
pub struct Share {
    pub caught: u64,
    pub tried: u64,
}

/// The document of `faults`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultReport {
    /// The version of this document.
    pub schema: u32,
    /// The verdict over the clean trainer.
    pub baseline: Verdict,
    /// Which part of all scenarios they are planted in; absent where that is all that was asked for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub part: Option<Part>,
    /// The matrix.
    pub faults: Vec<FaultOutcome>,
    /// How many of each fate.
    pub summary: BTreeMap<String, u64>,
}

/// How many of each fate.
fn summary(faults: &[FaultOutcome]) -> BTreeMap<String, u64> {
    let mut summary: BTreeMap<String, u64> =
        Fate::ALL.into_iter().map(|fate| (fate.name().to_owned(), 0)).collect();
    for fault in faults {
        *summary.entry(fault.verdict.name().to_owned()).or_default() += 1;
    }
    summary
}

impl FaultReport {
    /// The report of these rows.
    pub fn new(baseline: Verdict, faults: Vec<FaultOutcome>) -> Self {
        Self { schema: SCHEMA, baseline, part: None, summary: summary(&faults), faults }
    }

    /// The exit status of `faults`.
    pub fn exit(&self) -> Exit {
        match self.baseline {
            Verdict::Broken => Exit::Baseline,
            _ if self.faults.iter().any(|fault| fault.verdict != Fate::Caught) => Exit::Broken,
            Verdict::NotJudged => Exit::NotJudged,
            Verdict::Held | Verdict::Waived => Exit::Held,
        }
    }
}
