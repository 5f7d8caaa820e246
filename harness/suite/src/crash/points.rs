//! The points at which the script is killed, and what each leaves below `{out}`.

use std::collections::{BTreeMap, BTreeSet};
use std::io;
use std::path::Path;

use serde::Serialize;

use super::observe::Step;
use super::operation::Kind;
use super::saves::Save;
use super::tree::{Store, Tree};
use super::unsynced::lose;

/// How the run ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Left {
    /// SIGKILL just before the operation.
    Killed,
    /// SIGKILL when half of the bytes of a write have arrived.
    Torn,
    /// Power loss just before the operation: what was not synced is lost.
    Unsynced,
}

impl Left {
    /// How reports begin the line of a point; the operation follows.
    pub fn name(self) -> &'static str {
        match self {
            Self::Killed => "killed before",
            Self::Torn => "torn in",
            Self::Unsynced => "unsynced before",
        }
    }
}

/// One point.
#[derive(Clone, Debug)]
pub struct Point {
    /// The number of the step, from 0.
    pub at: usize,
    /// How the run ends there.
    pub left: Left,
    /// What is left.
    pub tree: Tree,
}

/// Killed before each step; within each write, too. `end` is what the run leaves at its own end.
pub fn killed_and_torn(steps: &[Step], end: &Tree, store: &mut Store) -> io::Result<Vec<Point>> {
    let mut points = Vec::new();
    for (at, step) in steps.iter().enumerate() {
        points.push(Point { at, left: Left::Killed, tree: step.before.clone() });
        if let Some(tree) = torn(&steps[at..], end, store)? {
            points.push(Point { at, left: Left::Torn, tree });
        }
    }
    Ok(points)
}

/// Half of what the first of `steps` writes.
fn torn(steps: &[Step], end: &Tree, store: &mut Store) -> io::Result<Option<Tree>> {
    let [Step { operation, before }, later @ ..] = steps else { return Ok(None) };
    if operation.kind != Kind::Write {
        return Ok(None);
    }
    // Writes to other files may come between; the first other operation shows the file as it was written.
    let after = later.iter().find(|step| step.operation.kind != Kind::Write).map_or(end, |step| &step.before);
    let (Some(old), Some(new)) = (before.content(&operation.path), after.content(&operation.path)) else {
        return Ok(None);
    };
    let half = store.torn(Some(old), new)?;
    // A single byte, or the same bytes again.
    let is_whole = half == old || half == new;
    Ok((!is_whole).then(|| before.clone().with(&operation.path, half)))
}

/// Power loss after each rename, and at the end of each save. After the last step there is nothing left to resume.
pub fn unsynced(steps: &[Step], saves: &[Save], store: &mut Store) -> io::Result<Vec<Point>> {
    let mut points = Vec::new();
    for save in saves {
        let renamed = |at: &usize| *at == save.end || steps[at - 1].operation.kind == Kind::Rename;
        for at in (save.start + 1..=save.end).filter(renamed).filter(|at| *at < steps.len()) {
            points.push(Point { at, left: Left::Unsynced, tree: lose(steps, save.start, at, store)? });
        }
    }
    Ok(points)
}

/// About `most` of the points: the first, renames, links, the first and last write of each file, the others evenly.
pub fn sample(points: Vec<Point>, steps: &[Step], most: usize) -> Vec<Point> {
    let mut edges: BTreeMap<&Path, (usize, usize)> = BTreeMap::new();
    for (at, step) in steps.iter().enumerate().filter(|(_, step)| step.operation.kind == Kind::Write) {
        edges.entry(&step.operation.path).or_insert((at, at)).1 = at;
    }
    let writes: BTreeSet<usize> = edges.values().flat_map(|(first, last)| [*first, *last]).collect();
    let wanted = |point: &Point| {
        let names = matches!(steps[point.at].operation.kind, Kind::Rename | Kind::Link);
        point.at == 0 || names || writes.contains(&point.at)
    };
    let wanted: Vec<bool> = points.iter().map(wanted).collect();
    let others = wanted.iter().filter(|wanted| !**wanted).count();
    let room = most.saturating_sub(points.len() - others).min(others);
    let mut seen = 0;
    let keep = |(point, wanted): (Point, bool)| {
        if wanted {
            return Some(point);
        }
        seen += 1;
        (seen * room / others > (seen - 1) * room / others).then_some(point)
    };
    points.into_iter().zip(wanted).filter_map(keep).collect()
}
