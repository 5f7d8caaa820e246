//! Which samples a micro-batch of a recorded run has, and where in the uninterrupted run they are.

use traintrue_protocol::trace::event::MicroBatch;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::finding::Difference;
use crate::invariants::shared::place::first_ids;

/// Whether two micro-batches have the same samples: by index where both runs know it, or else by what is in their rows. A
/// loader that skips batches may not show its indices.
pub(super) fn same(it: &MicroBatch, other: &MicroBatch) -> bool {
    match (&it.samples, &other.samples) {
        (Some(samples), Some(others)) => samples == others,
        _ if it.content.is_some() || other.content.is_some() => it.content == other.content,
        _ => it.samples == other.samples,
    }
}

/// Whether anything is known of the samples.
pub(super) fn known(it: &MicroBatch) -> bool {
    it.samples.is_some() || it.content.is_some()
}

/// A micro-batch that is not the one that is due at `position` of the uninterrupted run.
pub(super) fn other_samples(whole: &[Line], position: usize, it: &MicroBatch) -> Difference {
    let due = whole[position.min(whole.len())..].iter().find_map(micro_batch);
    let found = whole.iter().enumerate().find_map(|(at, line)| {
        let other = micro_batch(line).filter(|other| known(other) && same(it, other))?;
        Some((at, other))
    });
    let count = |range: &[Line]| range.iter().filter(|line| micro_batch(line).is_some()).count();
    let (component, cause) = match found {
        Some((at, earlier)) if at < position => again(it, earlier, due, count(&whole[at..position])),
        Some((at, _)) => (
            Component::Cursor,
            format!("{} micro-batches are skipped, and their samples are never trained", count(&whole[position..at])),
        ),
        None => (
            Component::Order,
            "the resumed run goes through the data in another order: the sampler's random state at the start of the \
             epoch was not restored"
                .to_owned(),
        ),
    };
    Difference {
        expected: format!("samples {}", due.map_or("none".to_owned(), |due| shown(due, it))),
        actual: format!("samples {}", shown(it, due.unwrap_or(it))),
        component,
        cause,
    }
}

fn micro_batch(line: &Line) -> Option<&MicroBatch> {
    match &line.event {
        Event::MicroBatch(it) => Some(it),
        _ => None,
    }
}

/// Samples that were trained before: `earlier`, so many micro-batches before the place that the parameters come from.
fn again(
    it: &MicroBatch,
    earlier: &MicroBatch,
    due: Option<&MicroBatch>,
    before: usize,
) -> (Component, String) {
    let in_step = due.is_some_and(|due| due.index == earlier.index && due.epoch > earlier.epoch);
    let no_loader = it.loader.is_none();
    let same_stream = it.rng.is_some() && it.rng == earlier.rng && due.is_none_or(|due| due.rng != it.rng);
    match () {
        () if same_stream && (in_step || no_loader) => (
            Component::Rng,
            format!(
                "the random state is that of epoch {}, micro-batch {} again, and so are its samples: the script seeds its \
                 generators when it starts, and does not restore their states when it resumes",
                earlier.epoch, earlier.index
            ),
        ),
        () if in_step => (
            Component::Order,
            format!(
                "the epoch goes through the data in the order of epoch {}: what the order is drawn from was not restored",
                earlier.epoch
            ),
        ),
        () => (
            Component::Cursor,
            format!(
                "the data begin again too early: these samples were trained {before} micro-batches before the place that the \
                 parameters come from, and are trained twice"
            ),
        ),
    }
}

/// The first ids of a micro-batch, of the kind that the other has too.
pub(super) fn shown(it: &MicroBatch, other: &MicroBatch) -> String {
    let ids = if other.samples.is_some() {
        it.samples.as_deref().or(it.content.as_deref())
    } else {
        it.content.as_deref()
    };
    ids.or(it.samples.as_deref()).map_or("none".to_owned(), first_ids)
}
