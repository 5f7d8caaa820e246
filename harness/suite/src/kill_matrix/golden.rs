//! The kill matrix that somebody has looked at: `golden/kill-matrix.json`, written by `traintrue accept matrix`.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};

use super::fate::FaultOutcome;

/// One fault, without what may differ from run to run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct GoldenRow {
    /// The fault.
    pub fault: String,
    /// Its scenario.
    pub scenario: String,
    /// Its bug class.
    pub class: String,
    /// Invariants that must break.
    pub must: Vec<String>,
    /// Invariants that may.
    pub may: Vec<String>,
    /// Invariants that broke.
    pub broke: Vec<String>,
    /// The component that was named.
    pub component: String,
}

/// A golden matrix that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum GoldenError {
    #[error("{path}: cannot read or write the kill matrix: {source}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: not a kill matrix: {source}; rewrite it with `traintrue accept matrix`", path = .path.display())]
    Json { path: PathBuf, source: serde_json::Error },
}

impl From<&FaultOutcome> for GoldenRow {
    fn from(it: &FaultOutcome) -> Self {
        Self {
            fault: it.fault.clone(),
            scenario: it.scenario.clone(),
            class: it.class.clone(),
            must: it.expected.clone(),
            may: it.may.clone(),
            broke: it.broke.clone(),
            component: it.component.clone(),
        }
    }
}

/// How the fresh matrix differs from the golden one, a line a fault. Where `whole` is false only some faults were tried, and
/// those that were not are not missed.
pub fn compare(path: &Path, fresh: &[FaultOutcome], whole: bool) -> Result<Vec<String>, GoldenError> {
    let bytes = fs::read(path).map_err(|source| GoldenError::Io { path: path.to_owned(), source })?;
    let golden: Vec<GoldenRow> = serde_json::from_slice(&bytes)
        .map_err(|source| GoldenError::Json { path: path.to_owned(), source })?;
    Ok(differences(&golden, &fresh.iter().map(GoldenRow::from).collect::<Vec<_>>(), whole))
}

/// Writes the fresh matrix in the golden one's place.
pub fn accept(path: &Path, fresh: &[FaultOutcome]) -> Result<(), GoldenError> {
    let rows: Vec<GoldenRow> = fresh.iter().map(GoldenRow::from).collect();
    let text = serde_json::to_string_pretty(&rows)
        .map_err(|source| GoldenError::Json { path: path.to_owned(), source })?;
    fs::write(path, text + "\n").map_err(|source| GoldenError::Io { path: path.to_owned(), source })
}

fn differences(golden: &[GoldenRow], fresh: &[GoldenRow], whole: bool) -> Vec<String> {
    let mut differences = Vec::new();
    for row in fresh {
        match golden.iter().find(|it| it.fault == row.fault) {
            None => differences.push(format!("{}: not in the golden matrix", row.fault)),
            Some(it) if it != row => {
                let show = |row: &GoldenRow| format!("{} by {}", row.component, row.broke.join(", "));
                differences.push(format!("{}: expected {}, found {}", row.fault, show(it), show(row)));
            }
            Some(_) => {}
        }
    }
    let gone = |it: &&GoldenRow| whole && !fresh.iter().any(|row| row.fault == it.fault);
    differences.extend(golden.iter().filter(gone).map(|it| format!("{}: no longer tried", it.fault)));
    differences
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fault: &str, broke: &str) -> GoldenRow {
        GoldenRow {
            fault: fault.into(),
            scenario: "resume".into(),
            class: "resume".into(),
            must: vec!["seam/identical".into()],
            may: Vec::new(),
            broke: vec![broke.into()],
            component: "rng".into(),
        }
    }

    #[test]
    fn what_changed_is_said_a_line_a_fault() {
        let golden = [row("same", "seam/identical"), row("changed", "seam/identical"), row("gone", "a/b")];
        let fresh = [row("same", "seam/identical"), row("changed", "finite/everywhere"), row("new", "a/b")];
        let expected = [
            "changed: expected rng by seam/identical, found rng by finite/everywhere",
            "new: not in the golden matrix",
            "gone: no longer tried",
        ];
        assert_eq!(differences(&golden, &fresh, true), expected);
        assert_eq!(differences(&golden, &fresh, false), expected[..2]);
    }
}
