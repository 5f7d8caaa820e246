//! Where one save ends and the next begins.
//!
//! Nothing tells a save from the outside, but saves repeat themselves: `checkpoint-4/` is made as `checkpoint-2/`
//! was. The first part of a path that differs from its neighbours only in numbers is taken for the number of the
//! save. A save begins where a name is made again, and it counts only if it makes a file that resumed runs read.
//!
//! Not told apart: files side by side that are numbered for another reason, such as shards that are not in a folder
//! per save. Each of them is taken for a save. That can hide lost work, and does not invent any.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use super::observe::Step;
use super::operation::Kind;

/// Steps from `start` to before `end`, which make one checkpoint complete.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Save {
    /// The first step.
    pub start: usize,
    /// After the last step.
    pub end: usize,
}

/// The name of a path without the number of its save.
#[derive(Debug, Default)]
pub struct Names {
    /// Parts that differ only in their numbers, by their folder and the part without numbers.
    variants: BTreeMap<(PathBuf, String), BTreeSet<String>>,
}

impl Names {
    /// Learns from the names that a run makes.
    pub fn of(steps: &[Step]) -> Self {
        let mut names = Self::default();
        for made in steps.iter().filter_map(|step| step.operation.makes()) {
            for (folder, part) in parts(made) {
                names.variants.entry((folder, numberless(&part))).or_default().insert(part);
            }
        }
        names
    }

    /// The same for the same file of every save.
    pub fn general(&self, path: &Path) -> PathBuf {
        let mut general = PathBuf::new();
        let mut found = false;
        for (folder, part) in parts(path) {
            let place = (folder, numberless(&part));
            if !found && self.variants.get(&place).is_some_and(|seen| seen.len() > 1) {
                found = true;
                general.push(place.1);
            } else {
                general.push(part);
            }
        }
        general
    }
}

/// The saves of a fault-free run; `read` are the general names of what resumed runs read.
pub fn saves(steps: &[Step], names: &Names, read: &BTreeSet<PathBuf>) -> Vec<Save> {
    let mut saves = Vec::new();
    let (mut start, mut counts, mut seen) = (0, false, BTreeSet::new());
    for (at, step) in steps.iter().enumerate() {
        let Some(made) = step.operation.makes().map(|made| names.general(made)) else { continue };
        if seen.contains(&made) {
            let begins = at - removals_before(&steps[start..at]);
            if counts {
                saves.push(Save { start, end: begins });
            }
            (start, counts) = (begins, false);
            seen.clear();
        }
        counts |= read.contains(&made);
        seen.insert(made);
    }
    if counts {
        saves.push(Save { start, end: steps.len() });
    }
    saves
}

/// A trainer may remove the old checkpoint first: how many of the last steps do, which are then the next save's.
fn removals_before(steps: &[Step]) -> usize {
    let removes = |step: &&Step| matches!(step.operation.kind, Kind::Remove | Kind::RemoveFolder);
    steps.iter().rev().take_while(removes).count()
}

fn parts(path: &Path) -> Vec<(PathBuf, String)> {
    let part = |it: &Path| Some((it.parent()?.to_owned(), it.file_name()?.to_string_lossy().into_owned()));
    let mut parts: Vec<_> = path.ancestors().filter_map(part).collect();
    parts.reverse();
    parts
}

/// `checkpoint-12` is `checkpoint-#`.
fn numberless(part: &str) -> String {
    let mut without = String::new();
    for letter in part.chars() {
        match letter.is_ascii_digit() {
            true if without.ends_with('#') => {}
            true => without.push('#'),
            false => without.push(letter),
        }
    }
    without
}
