//! `seam/identical` for recorded scripts: where a resumed script goes on, and the first event that differs from there.
//!
//! A script saves when it saves. The resumed run is therefore not held to the place of the cut, but to the update whose
//! state its own first state equals.

mod aligned;
mod averages;
mod compared;
mod data;
mod history;

use traintrue_protocol::trace::{Line, TraceError};
use traintrue_protocol::vocabulary::Component;

use crate::finding::{Difference, Sheet};
use crate::rule::RunEvidence;
use aligned::{Place, align, trains_alike};
use compared::{Beside, parting};
use history::History;

/// Judges a recorded script that was ended and resumed: the last segment is the resumed one.
pub(crate) fn judge(run: &RunEvidence, against: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    let Some((resumed, before)) = run.segments.split_last() else { return Ok(()) };
    let whole = History::read(against.segments.last().unwrap_or(resumed))?;
    let segment = before.len();
    let resumed = History::read(resumed)?;
    let before = before.last().map(|path| History::read(path)).transpose()?;
    for repeat in against.repeats.iter().filter_map(|traces| traces.last()) {
        if let Some((_, due)) = parting(&History::read(repeat)?.steps, &whole.steps) {
            sheet.cannot(&not_deterministic(due, "with no cut at all"));
            return Ok(());
        }
    }
    if let Some(before) = &before {
        let (in_time, after_signal) = before.at_cut();
        if let Some((_, due)) = parting(in_time, &whole.steps) {
            sheet.cannot(&not_deterministic(due, "before the cut"));
            return Ok(());
        }
        let rest = whole.steps.get(in_time.len()..).unwrap_or_default();
        if let Some((line, due)) = parting(after_signal, rest) {
            sheet.check_in(segment - 1, false, line, || compared::after_signal(line, due));
            return Ok(());
        }
    }
    let Some(start) = resumed.start() else {
        sheet.cannot("the resumed run has no state at its start: it trained nothing");
        return Ok(());
    };
    let first = resumed.steps.iter().find_map(data::micro_batch);
    let aligned = match align(start, &whole, first) {
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
        // A layer that the script unfreezes later is not in the digests of a run that began before it.
        let digests = whole.start().is_some_and(|at_first| trains_alike(start, at_first));
        let frozen = aligned.frozen_now(start);
        compared::from_there(&whole, aligned.position, &resumed, &Beside { digests, frozen }, segment, sheet);
    }
    if sheet.broken.is_none() {
        averages::compare(&whole, aligned.step, &resumed, segment, sheet);
    }
    Ok(())
}

fn not_deterministic(due: &Line, when: &str) -> String {
    let place = compared::named(due);
    format!(
        "the script is not deterministic: two runs from the same start differ at {place}, {when}; seed every random \
         generator and choose deterministic algorithms"
    )
}

/// What is done again because the resumed run goes on from an earlier update than the cut run had reached.
fn again(step: u64, before: &History, resumed: &History, start: &Line, segment: usize, sheet: &mut Sheet) {
    let done = before.updates();
    sheet.compared_in(segment, start, left_behind(step, before, resumed));
    sheet.remarks.extend(passed_over(step, before, resumed).filter(|_| sheet.broken.is_none()));
    if done > step {
        let from = if step == 0 { "the beginning".to_owned() } else { format!("update {step}") };
        sheet.remarks.push(format!("resumed from {from}; {} of {done} updates are done again", done - step));
    }
}

/// A newer whole checkpoint than the one that the resumed run went on from, if it should have been taken.
fn left_behind(step: u64, before: &History, resumed: &History) -> Option<Difference> {
    let new = loaded_now(before, resumed);
    let nothing = step == 0 && new.is_empty() && resumed.loaded().len() <= before.loaded().len();
    // A script may save more than it resumes from: its best weights, an export. Only the successor of what was loaded
    // counts.
    let successor = |path: &str| new.iter().any(|loaded| series(loaded) == series(path));
    let saved = before.saved_after(step).find(|it| nothing || successor(&it.path))?;
    let read = step == 0 && new.contains(&saved.path.as_str());
    Some(Difference {
        expected: format!("to go on from update {}, saved as {}", saved.step, saved.path),
        actual: format!("goes on from update {step}"),
        component: if nothing || read { Component::Checkpoint } else { Component::CheckpointStore },
        cause: if nothing {
            "the resumed run loaded nothing, although a complete checkpoint was there: it begins as a fresh start does"
                .into()
        } else if read {
            "the resumed run read the checkpoint and trains the parameters of a fresh start: what it read was put into no \
             model, or into another one"
                .into()
        } else {
            format!(
                "the resumed run took an older checkpoint, {}, although a newer complete one was there",
                paths(&new)
            )
        },
    })
}

/// A newer whole checkpoint of another name than the one that was loaded. It may be the best one or an export: no fault.
fn passed_over(step: u64, before: &History, resumed: &History) -> Option<String> {
    let new = loaded_now(before, resumed);
    let saved = before.saved_after(step).next().filter(|_| !new.is_empty())?;
    Some(format!(
        "a newer complete checkpoint was there and was not taken: {}, of update {}; the resumed run loaded {}",
        saved.path,
        saved.step,
        paths(&new)
    ))
}

/// The files that the resumed run loaded, and that the first run did not.
fn loaded_now<'a>(before: &History, resumed: &'a History) -> Vec<&'a str> {
    let at_first = before.loaded();
    resumed.loaded().into_iter().filter(|path| !at_first.contains(path)).collect()
}

/// The paths among what was loaded: a state dict may be loaded from memory.
fn paths(loaded: &[&str]) -> String {
    let named: Vec<&str> = loaded.iter().copied().filter(|path| *path != "memory").collect();
    if named.is_empty() { "no file".into() } else { named.join(", ") }
}

/// A path without its numbers: `out/checkpoint-20/optimizer.pt` and `out/checkpoint-40/optimizer.pt` are of one series.
fn series(path: &str) -> String {
    path.chars().filter(|it| !it.is_ascii_digit()).collect()
}

#[cfg(test)]
mod tests;
