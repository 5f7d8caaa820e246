//! Where a script is cut: inside an accumulation window, at a window's edge, at an epoch's edge, and in a later epoch.

use std::path::Path;

use traintrue_protocol::trace::event::CheckpointEdge;
use traintrue_protocol::trace::{Event, TraceError, TraceReader};

use super::CutError;

/// A place to cut at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Micro-batches that the script makes before it is ended.
    pub after: u64,
    /// Micro-batches of the whole run.
    pub of: u64,
    /// The kind of place.
    pub what: &'static str,
}

/// One micro-batch of a whole run.
#[derive(Clone, Copy, Debug)]
pub struct Step {
    /// Its epoch.
    pub epoch: u64,
    /// Whether an update follows it.
    pub closes: bool,
}

/// The places that were asked for, or one of each kind that the run has.
pub(super) fn chosen(whole: &Path, asked: &[u64]) -> Result<Vec<Place>, CutError> {
    let Course { steps, all, first_save, .. } = course(whole)?;
    if let Some(&at) = asked.iter().find(|&&at| at == 0 || at >= all) {
        return Err(CutError::NoPlace { at, all });
    }
    if !asked.is_empty() {
        return Ok(asked.iter().map(|&after| Place { after, of: all, what: "as asked" }).collect());
    }
    let places = places(&steps, first_save);
    if places.is_empty() { Err(CutError::TooShort(all)) } else { Ok(places) }
}

/// One place of each kind that the run has, in the order of the run; none before so many micro-batches, after which the
/// script saves for the first time.
pub fn places(steps: &[Step], first_save: usize) -> Vec<Place> {
    let closes = |at: usize| steps[at].closes;
    // Micro-batch `at` is the last before the cut: something must follow it.
    let inner: Vec<usize> = (first_save..steps.len().saturating_sub(1)).collect();
    let from = |share: usize| first_save + inner.len() * share / 12;
    let after = |begin: usize, wanted: &dyn Fn(usize) -> bool| {
        inner
            .iter()
            .copied()
            .filter(|&at| at >= begin)
            .find(|&at| wanted(at))
            .or_else(|| inner.iter().copied().find(|&at| wanted(at)))
    };
    let later = |at: usize| steps[at].epoch > steps[0].epoch && steps[at + 1].epoch == steps[at].epoch;
    let found = [
        ("inside a window", after(from(3), &|at| !closes(at))),
        ("at a window's edge", after(from(6), &|at| closes(at) && steps[at + 1].epoch == steps[at].epoch)),
        ("at an epoch's edge", after(0, &|at| steps[at + 1].epoch > steps[at].epoch)),
        (
            "in a later epoch",
            after(from(9), &|at| later(at) && !closes(at)).or_else(|| after(from(9), &later)),
        ),
    ];
    let mut places: Vec<Place> = Vec::new();
    for (what, at) in found {
        if let Some(at) = at
            && !places.iter().any(|place| place.after == at as u64 + 1)
        {
            places.push(Place { after: at as u64 + 1, of: steps.len() as u64, what });
        }
    }
    places.sort_by_key(|place| place.after);
    places
}

/// What a trace shows of a run's course.
#[derive(Default)]
pub(super) struct Course {
    steps: Vec<Step>,
    /// Micro-batches.
    pub all: u64,
    /// Whether it saved anything.
    pub saved: bool,
    /// Micro-batches before the first save.
    first_save: usize,
}

pub(super) fn course(trace: &Path) -> Result<Course, CutError> {
    let mut course = Course::default();
    for line in TraceReader::open(trace)? {
        let line = match line {
            // A killed process may leave half a line at its end.
            Err(TraceError::CutShort { .. }) => break,
            line => line?,
        };
        match line.event {
            Event::MicroBatch(it) => course.steps.push(Step { epoch: it.epoch, closes: false }),
            Event::Update(_) => {
                if let Some(last) = course.steps.last_mut() {
                    last.closes = true;
                }
            }
            Event::Checkpoint(it) if it.edge == CheckpointEdge::Saved && !course.saved => {
                (course.saved, course.first_save) = (true, course.steps.len());
            }
            _ => {}
        }
    }
    course.all = course.steps.len() as u64;
    // A save that comes with the end is none to resume from.
    if course.first_save + 1 >= course.steps.len() {
        course.first_save = 0;
    }
    Ok(course)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    /// Epochs of so many micro-batches, in windows of `window`; the tail is flushed.
    fn run(epochs: u64, length: u64, window: u64) -> Vec<Step> {
        let closes = |index: u64| (index + 1).is_multiple_of(window) || index + 1 == length;
        (0..epochs)
            .flat_map(|epoch| (0..length).map(move |index| Step { epoch, closes: closes(index) }))
            .collect()
    }

    #[rstest]
    #[case::windows_and_epochs(run(2, 10, 4), 0, &[5, 10, 14, 15])]
    #[case::after_the_first_save(run(2, 10, 4), 8, &[10, 11, 14, 17])]
    #[case::no_windows(run(3, 4, 1), 0, &[4, 6, 9])]
    #[case::one_epoch(run(1, 12, 3), 0, &[4, 6])]
    #[case::two_micro_batches(run(1, 2, 1), 0, &[1])]
    #[case::one_micro_batch(run(1, 1, 1), 0, &[])]
    #[case::nothing(Vec::new(), 0, &[])]
    fn a_run_is_cut_at_one_place_of_each_kind_that_it_has(
        #[case] steps: Vec<Step>,
        #[case] first_save: usize,
        #[case] expected: &[u64],
    ) {
        let places: Vec<u64> = places(&steps, first_save).into_iter().map(|place| place.after).collect();
        assert_eq!(places, expected);
    }
}
