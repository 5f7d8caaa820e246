//! What a resume came to, against the fault-free end.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use serde::Serialize;

use super::observe::Step;
use super::operation::Kind;
use super::points::{Left, Point};
use super::rig::{Outcome, shown};
use super::saves::{Names, Save};
use super::trace::Status;
use super::tree::Tree;

/// What a point came to, the worst first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// Exit status 0, and the end is not the fault-free end.
    Different,
    /// The resume fails.
    Refuses,
    /// The end is the same, and more than the save that was interrupted was done again.
    LostWork,
    /// The rest of the end is the same, and a file that the crash damaged is still there under its name.
    Damaged,
    /// The resume ends, and there is no file to compare.
    NotCompared,
    /// The resume fails as it does on an empty folder, and no save was complete.
    NothingYet,
    /// The end is the fault-free end.
    Exact,
}

impl Verdict {
    /// All, the worst first.
    pub const ALL: [Self; 7] = [
        Self::Different,
        Self::Refuses,
        Self::LostWork,
        Self::Damaged,
        Self::NotCompared,
        Self::NothingYet,
        Self::Exact,
    ];

    /// The name in reports.
    pub fn name(self) -> &'static str {
        match self {
            Self::Different => "silently different",
            Self::Refuses => "refuses to start",
            Self::LostWork => "lost work",
            Self::Damaged => "leaves a damaged file",
            Self::NotCompared => "not compared",
            Self::NothingYet => "nothing to resume yet",
            Self::Exact => "exact",
        }
    }

    /// Lost work is broken, too: an interrupted save costs what was trained since the last complete one. What is lost beyond
    /// that, the trainer had saved.
    pub fn is_broken(self) -> bool {
        self <= Self::Damaged
    }
}

/// What all points are judged by.
#[derive(Debug)]
pub struct Judge<'a> {
    /// The fault-free run.
    pub steps: &'a [Step],
    /// Its saves.
    pub saves: &'a [Save],
    /// Names without the numbers of saves.
    pub names: &'a Names,
    /// The fault-free end, without what cannot be compared.
    pub end: Tree,
    /// The general name of the file that shows how often a run saves.
    pub marker: Option<PathBuf>,
    /// How many saves a resume makes beyond those that remain, even when it is stopped between two saves.
    pub habit: usize,
    /// The resume fails on an empty folder.
    pub needs_checkpoint: bool,
}

impl Judge<'_> {
    /// The verdict, and what shows it.
    pub fn verdict(&self, point: &Point, outcome: &Outcome) -> (Verdict, String) {
        let complete = self.complete(point);
        if outcome.status != Status::Exited(0) {
            let verdict = match complete == 0 && self.needs_checkpoint {
                true => Verdict::NothingYet,
                false => Verdict::Refuses,
            };
            return (verdict, format!("{}: {}", shown(outcome.status), outcome.said));
        }
        let differing = self.end.differing(&outcome.end);
        // Left as the crash left it: the resume did not touch it.
        let untouched = |path: &PathBuf| {
            let left = point.tree.content(path);
            left.is_some() && left == outcome.end.content(path)
        };
        if !differing.iter().all(untouched) {
            return (Verdict::Different, format!("not as at the fault-free end: {}", list(&differing)));
        }
        if let Some(lost) = self.lost_work(point, outcome, complete) {
            return (Verdict::LostWork, lost);
        }
        if !differing.is_empty() {
            return (Verdict::Damaged, format!("still as the crash left it: {}", list(&differing)));
        }
        match self.end.0.is_empty() {
            true => (Verdict::NotCompared, String::new()),
            false => (Verdict::Exact, String::new()),
        }
    }

    /// How many saves are complete, and on the disk, at a point.
    pub fn complete(&self, point: &Point) -> usize {
        let is_complete = |save: &&Save| match point.left {
            Left::Killed | Left::Torn => save.end <= point.at,
            // The save that ends here is the one that is lost.
            Left::Unsynced => save.end < point.at,
        };
        self.saves.iter().filter(is_complete).count()
    }

    /// How many saves of the fault-free run come after the first `complete` ones.
    pub fn remaining(&self, complete: usize) -> usize {
        let from = self.saves.get(complete).map_or(self.steps.len(), |save| save.start);
        let made = self.steps[from..].iter().filter_map(|step| step.operation.makes());
        self.marks(made)
    }

    /// How many saves a resume made.
    pub fn made(&self, outcome: &Outcome) -> usize {
        self.marks(outcome.resumed.made.iter().map(PathBuf::as_path))
    }

    fn marks<'p>(&self, made: impl Iterator<Item = &'p Path>) -> usize {
        made.filter(|path| self.marker.as_ref() == Some(&self.names.general(path))).count()
    }

    /// Two signs: the resume makes saves again that were complete, or reads no file of the newest complete save or a
    /// later one.
    fn lost_work(&self, point: &Point, outcome: &Outcome, complete: usize) -> Option<String> {
        let again = self.made(outcome).saturating_sub(self.remaining(complete) + self.habit);
        let origins = self.origins(point.at);
        let newest = outcome.resumed.read.iter().filter_map(|path| origins.get(path)).max().copied();
        let from = complete.saturating_sub(again).min(newest.unwrap_or(0));
        if from >= complete {
            return None;
        }
        let read = &outcome.resumed.read;
        let read = if read.is_empty() { "no file".to_owned() } else { list(read) };
        let from = if from == 0 { "the beginning".to_owned() } else { format!("save {from}") };
        Some(format!("goes on from {from} although save {complete} was complete; it read {read}"))
    }

    /// The save, counted from 1, that wrote each file last.
    fn origins(&self, at: usize) -> BTreeMap<PathBuf, usize> {
        let mut origins: BTreeMap<PathBuf, usize> = BTreeMap::new();
        for (number, Step { operation, .. }) in self.steps[..at].iter().enumerate() {
            let save = self.saves.iter().filter(|save| save.start <= number).count();
            match (operation.kind, &operation.to) {
                (Kind::Remove | Kind::RemoveFolder, _) => drop(origins.remove(&operation.path)),
                (_, Some(to)) => {
                    let under: Vec<PathBuf> =
                        origins.keys().filter(|path| path.starts_with(&operation.path)).cloned().collect();
                    for path in under {
                        let rest = path.strip_prefix(&operation.path).unwrap_or(&path);
                        origins.insert(to.join(rest).components().collect(), save);
                    }
                    origins.insert(to.clone(), save);
                }
                (_, None) => drop(origins.insert(operation.path.clone(), save)),
            }
        }
        origins
    }
}

fn list<'p>(paths: impl IntoIterator<Item = &'p PathBuf>) -> String {
    paths.into_iter().map(|path| path.display().to_string()).collect::<Vec<_>>().join(", ")
}

/// The general name that the fault-free run makes most often, of those that resumed runs read.
pub fn marker(steps: &[Step], names: &Names, read: &BTreeSet<PathBuf>) -> Option<PathBuf> {
    let mut counts: BTreeMap<PathBuf, usize> = BTreeMap::new();
    for made in steps.iter().filter_map(|step| step.operation.makes()).map(|made| names.general(made)) {
        if read.contains(&made) {
            *counts.entry(made).or_default() += 1;
        }
    }
    counts.into_iter().max_by_key(|(_, count)| *count).map(|(name, _)| name)
}
