//! Puts the reports of the parts of one run together: `--partition slice:1/3` to `slice:3/3` make one verdict.

use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::de::DeserializeOwned;
use traintrue_judge::verdict::{Part, RunReport, Summary, Verdict};
use traintrue_protocol::contract::Contract;

use crate::kill_matrix::FaultReport;

/// Reports that are not the parts of one run.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum MergeError {
    #[error("{path}: cannot read: {source}", path = .path.display())]
    Read { path: PathBuf, source: io::Error },
    #[error("{path}: not a report of this version: {source}", path = .path.display())]
    Json { path: PathBuf, source: serde_json::Error },
    #[error("{path}: is of no part; make it with --partition slice:1/N", path = .path.display())]
    NoPart { path: PathBuf },
    #[error("{path}: is {part}, a part of another division than the first", path = .path.display())]
    Division { path: PathBuf, part: Part },
    #[error("{path}: {what} is another than in the first part: {found}, expected {expected}", path = .path.display())]
    Different { path: PathBuf, what: &'static str, found: String, expected: String },
    #[error("{part} is not among the parts, or more than once")]
    Missing { part: Part },
}

/// A report, and the file that it was read from.
pub type Read<T> = (PathBuf, T);

/// Reads one report.
pub fn read<T: DeserializeOwned>(path: &Path) -> Result<Read<T>, MergeError> {
    let text =
        fs::read_to_string(path).map_err(|source| MergeError::Read { path: path.to_owned(), source })?;
    let report =
        serde_json::from_str(&text).map_err(|source| MergeError::Json { path: path.to_owned(), source })?;
    Ok((path.to_owned(), report))
}

/// The report of the whole run. Its outcomes are in the order in which one run would have had them.
pub fn runs(parts: Vec<Read<RunReport>>) -> Result<RunReport, MergeError> {
    let parts = in_order(parts, |report| report.part)?;
    let Some((_, first)) = parts.first() else {
        return Ok(RunReport::new(String::new(), Contract::default(), Vec::new()));
    };
    for (path, report) in &parts {
        same(path, "the trainer", &report.trainer, &first.trainer)?;
        same(path, "the contract", &report.contract.to_string(), &first.contract.to_string())?;
    }
    let mut whole = RunReport { part: None, outcomes: Vec::new(), ..first.clone() };
    let lists = parts.iter().map(|(_, report)| report.outcomes.clone()).collect();
    for outcome in in_turn(lists) {
        // Each part has the finding of a waiver that has expired.
        if !whole.outcomes.contains(&outcome) {
            whole.outcomes.push(outcome);
        }
    }
    for (_, report) in parts.iter().skip(1) {
        extend(&mut whole.notes, &report.notes);
        extend(&mut whole.errors, &report.errors);
    }
    whole.summary = Summary::of(&whole.outcomes);
    Ok(whole)
}

/// The kill matrix of the whole run. Its rows are in the order of the parts.
pub fn faults(parts: Vec<Read<FaultReport>>) -> Result<FaultReport, MergeError> {
    let parts = in_order(parts, |report| report.part)?;
    let baseline = parts.iter().map(|(_, report)| report.baseline).max().unwrap_or(Verdict::NotJudged);
    let faults = parts.into_iter().flat_map(|(_, report)| report.faults);
    Ok(FaultReport::new(baseline, faults.collect()))
}

/// The parts by their number, each of which must be there once.
fn in_order<T>(parts: Vec<Read<T>>, part: impl Fn(&T) -> Option<Part>) -> Result<Vec<Read<T>>, MergeError> {
    let mut numbered = Vec::new();
    for (path, report) in parts {
        let part = part(&report).ok_or_else(|| MergeError::NoPart { path: path.clone() })?;
        match numbered.first() {
            Some((first, _)) if !part.is_beside(*first) => return Err(MergeError::Division { path, part }),
            _ => numbered.push((part, (path, report))),
        }
    }
    let found: Vec<Part> = numbered.iter().map(|(part, _)| *part).collect();
    if let Some(part) = Part::missing(&found) {
        return Err(MergeError::Missing { part });
    }
    numbered.sort_by_key(|(part, _)| *part);
    Ok(numbered.into_iter().map(|(_, read)| read).collect())
}

/// The first of each list, then the second of each.
fn in_turn<T>(lists: Vec<Vec<T>>) -> Vec<T> {
    let mut lists: Vec<_> = lists.into_iter().map(Vec::into_iter).collect();
    let mut all = Vec::new();
    loop {
        let before = all.len();
        all.extend(lists.iter_mut().filter_map(Iterator::next));
        if all.len() == before {
            return all;
        }
    }
}

fn same(path: &Path, what: &'static str, found: &str, expected: &str) -> Result<(), MergeError> {
    if found == expected {
        return Ok(());
    }
    let (path, found, expected) = (path.to_owned(), found.to_owned(), expected.to_owned());
    Err(MergeError::Different { path, what, found, expected })
}

fn extend(all: &mut Vec<String>, more: &[String]) {
    for one in more {
        if !all.contains(one) {
            all.push(one.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use traintrue_judge::verdict::Outcome;

    use super::*;

    fn part(text: &str, trainer: &str, scenarios: &[&str]) -> Read<RunReport> {
        let outcomes: Vec<Outcome> =
            scenarios.iter().map(|id| Outcome::not_judged(id, "no resume".into())).collect();
        let report = RunReport::new(trainer.into(), Contract::default(), outcomes);
        let report = RunReport { part: text.parse().ok(), ..report };
        (PathBuf::from(format!("{}.json", text.replace('/', "-"))), report)
    }

    fn ids(report: &RunReport) -> Vec<&str> {
        report.outcomes.iter().map(|outcome| outcome.scenario.as_str()).collect()
    }

    #[test]
    fn parts_in_any_order_make_the_whole_in_its_order() {
        let all = vec!["a", "b", "c", "d", "e"];
        let of = |text: &str| text.parse::<Part>().unwrap().of(all.clone());
        let parts = ["slice:3/3", "slice:1/3", "slice:2/3"].map(|text| part(text, "t 1", &of(text)));
        let whole = runs(parts.to_vec()).unwrap();
        assert_eq!((ids(&whole), whole.part), (all, None));
        assert_eq!(whole.summary.not_judged, 5);
    }

    #[test]
    fn what_every_part_says_is_said_once() {
        let parts = ["slice:1/2", "slice:2/2"].map(|text| {
            let (path, mut report) = part(text, "t 1", &["traintrue.toml"]);
            report.notes = vec!["left out".into()];
            (path, report)
        });
        let whole = runs(parts.to_vec()).unwrap();
        assert_eq!((ids(&whole), whole.notes.len()), (vec!["traintrue.toml"], 1));
    }

    #[test]
    fn reports_that_are_not_the_parts_of_one_run_are_refused() {
        let refused = |parts: Vec<Read<RunReport>>| runs(parts).unwrap_err().to_string();
        let (one, two) = (part("slice:1/2", "t 1", &["a"]), part("slice:2/2", "t 1", &["b"]));
        assert_eq!(refused(vec![one.clone()]), "slice:2/2 is not among the parts, or more than once");
        assert_eq!(
            refused(vec![one.clone(), two.clone(), one.clone()]),
            "slice:1/2 is not among the parts, or more than once"
        );
        let other = part("slice:2/2", "t 2", &["b"]);
        assert_eq!(
            refused(vec![one.clone(), other]),
            "slice:2-2.json: the trainer is another than in the first part: t 2, expected t 1"
        );
        let third = part("slice:1/3", "t 1", &["b"]);
        assert!(refused(vec![one, third]).contains("is slice:1/3, a part of another division"));
        assert!(refused(vec![part("", "t 1", &[])]).contains("is of no part"));
    }
}
