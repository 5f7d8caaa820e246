//! `seam/identical` for recorded scripts: where a resumed script goes on, and the first event that differs from there.
//!
//! A script saves when it saves. The resumed run is therefore not held to the place of the cut, but to the update whose
//! state its own first state equals.

mod aligned;
mod compared;
mod data;
mod history;

use traintrue_protocol::trace::{Line, TraceError};
use traintrue_protocol::vocabulary::Component;

use crate::finding::{Difference, Sheet};
use crate::rule::RunEvidence;
use aligned::{Place, align};
use history::History;

/// Judges a recorded script that was ended and resumed: the last segment is the resumed one.
pub(crate) fn judge(run: &RunEvidence, against: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    let Some((resumed, before)) = run.segments.split_last() else { return Ok(()) };
    let whole = History::read(against.segments.last().unwrap_or(resumed))?;
    let segment = before.len();
    let resumed = History::read(resumed)?;
    let before = before.last().map(|path| History::read(path)).transpose()?;
    if let Some(before) = &before
        && let Some(place) = compared::first_difference(&before.steps, &whole.steps)
    {
        sheet.cannot(&format!(
            "the script is not deterministic: two runs from the same start differ at {place}, before the cut; seed \
             every random generator and choose deterministic algorithms"
        ));
        return Ok(());
    }
    let Some(start) = resumed.start() else {
        sheet.cannot("the resumed run has no state at its start: it trained nothing");
        return Ok(());
    };
    let aligned = match align(start, &whole) {
        Place::At(aligned) => aligned,
        Place::Nowhere(difference) => {
            sheet.check_in(segment, false, start, || difference);
            return Ok(());
        }
    };
    sheet.compared += 1;
    sheet.resumed_from = Some(aligned.step);
    if let Some(before) = &before {
        again(aligned.step, before, &resumed, start, segment, sheet);
    }
    if sheet.broken.is_none() {
        for difference in aligned.restored(start) {
            sheet.compared_in(segment, start, difference);
        }
    }
    if sheet.broken.is_none() {
        compared::from_there(&whole, aligned.position, &resumed, segment, sheet);
    }
    Ok(())
}

/// What is done again because the resumed run goes on from an earlier update than the cut run had reached.
fn again(step: u64, before: &History, resumed: &History, start: &Line, segment: usize, sheet: &mut Sheet) {
    let done = before.updates();
    sheet.compared_in(segment, start, left_behind(step, before, resumed));
    if done > step {
        let from = if step == 0 { "the beginning".to_owned() } else { format!("update {step}") };
        sheet.remarks.push(format!("resumed from {from}; {} of {done} updates are done again", done - step));
    }
}

/// A newer whole checkpoint than the one that the resumed run went on from, if it should have been taken.
fn left_behind(step: u64, before: &History, resumed: &History) -> Option<Difference> {
    let (at_first, loaded) = (before.loaded(), resumed.loaded());
    let new: Vec<&str> = loaded.iter().copied().filter(|path| !at_first.contains(path)).collect();
    let nothing = step == 0 && new.is_empty() && loaded.len() <= at_first.len();
    // A script may save more than it resumes from: its best weights, an export. Only the successor of what was loaded
    // counts.
    let successor = |path: &str| new.iter().any(|loaded| series(loaded) == series(path));
    let saved = before.saved().filter(|it| it.step > step).find(|it| nothing || successor(&it.path))?;
    Some(Difference {
        expected: format!("to go on from update {}, saved as {}", saved.step, saved.path),
        actual: format!("goes on from update {step}"),
        component: if nothing { Component::Checkpoint } else { Component::CheckpointStore },
        cause: if nothing {
            "the resumed run loaded nothing, although a complete checkpoint was there: it begins as a fresh start does"
                .into()
        } else {
            format!(
                "the resumed run took an older checkpoint, {}, although a newer complete one was there",
                new.join(", ")
            )
        },
    })
}

/// A path without its numbers: `out/checkpoint-20/optimizer.pt` and `out/checkpoint-40/optimizer.pt` are of one series.
fn series(path: &str) -> String {
    path.chars().filter(|it| !it.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests;
