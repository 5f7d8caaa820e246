//! Where a script is cut: inside an accumulation window, at a window's edge, at an epoch's edge, and in a later epoch.

use std::path::Path;

use traintrue_protocol::trace::{Event, TraceReader};

use super::CutError;

/// A place to cut at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place {
    /// Micro-batches that the script makes before it is ended.
    pub after: u64,
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
    let steps = steps(whole)?;
    let all = steps.len() as u64;
    if let Some(&at) = asked.iter().find(|&&at| at == 0 || at >= all) {
        return Err(CutError::NoPlace { at, all });
    }
    if !asked.is_empty() {
        return Ok(asked.iter().map(|&after| Place { after, what: "as asked" }).collect());
    }
    let places = places(&steps);
    if places.is_empty() { Err(CutError::TooShort(all)) } else { Ok(places) }
}

/// One place of each kind that the run has, in the order of the run.
pub fn places(steps: &[Step]) -> Vec<Place> {
    let closes = |at: usize| steps[at].closes;
    // Micro-batch `at` is the last before the cut: something must follow it.
    let inner: Vec<usize> = (0..steps.len().saturating_sub(1)).collect();
    let from = |share: usize| inner.len() * share / 12;
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
            places.push(Place { after: at as u64 + 1, what });
        }
    }
    places.sort_by_key(|place| place.after);
    places
}

fn steps(whole: &Path) -> Result<Vec<Step>, CutError> {
    let mut steps: Vec<Step> = Vec::new();
    for line in TraceReader::open(whole)? {
        match line?.event {
            Event::MicroBatch(it) => steps.push(Step { epoch: it.epoch, closes: false }),
            Event::Update(_) => {
                if let Some(last) = steps.last_mut() {
                    last.closes = true;
                }
            }
            _ => {}
        }
    }
    Ok(steps)
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
    #[case::windows_and_epochs(run(2, 10, 4), &[5, 10, 14, 15])]
    #[case::no_windows(run(3, 4, 1), &[4, 6, 9])]
    #[case::one_epoch(run(1, 12, 3), &[4, 6])]
    #[case::two_micro_batches(run(1, 2, 1), &[1])]
    #[case::one_micro_batch(run(1, 1, 1), &[])]
    #[case::nothing(Vec::new(), &[])]
    fn a_run_is_cut_at_one_place_of_each_kind_that_it_has(
        #[case] steps: Vec<Step>,
        #[case] expected: &[u64],
    ) {
        let places: Vec<u64> = places(&steps).into_iter().map(|place| place.after).collect();
        assert_eq!(places, expected);
    }
}
