//! Which samples a micro-batch of a recorded run has, and where in the uninterrupted run they are.

use traintrue_protocol::trace::event::MicroBatch;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::finding::Difference;
use crate::invariants::shared::place::{first_ids, micro_batches};

/// Whether two micro-batches have the same samples: by index where both runs know it, or else by what is in their rows. A
/// loader that skips batches may not show its indices.
pub(super) fn same(it: &MicroBatch, other: &MicroBatch) -> bool {
    match (&it.samples, &other.samples) {
        (Some(samples), Some(others)) => samples == others,
        _ if it.content.is_some() || other.content.is_some() => it.content == other.content,
        _ => it.samples == other.samples,
    }
}

/// Whether two micro-batches are one: the same samples, or the same loss from the same random state. A recorder may take
/// another batch for the one that a forward consumed, where the script changed it before.
pub(super) fn is(it: &MicroBatch, other: &MicroBatch) -> bool {
    let same_loss =
        it.backward.is_some_and(|value| value.is_finite() && value.0 != 0.0) && it.backward == other.backward;
    same(it, other) || same_loss && it.rng.is_some() && it.rng == other.rng
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
        Some((at, later)) => ahead(later, due, count(&whole[position..at])),
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

/// Samples of `later`, so many micro-batches after the place that the parameters come from.
fn ahead(later: &MicroBatch, due: Option<&MicroBatch>, skipped: usize) -> (Component, String) {
    let skipped = micro_batches(skipped as u64);
    match due {
        Some(due) if due.epoch < later.epoch && due.index == later.index && due.index > 0 => (
            Component::Order,
            format!(
                "the rest of epoch {} goes through the data in the order of epoch {}: the random state was saved after the \
                 epoch's order was drawn from it. Save the state that was before the epoch",
                due.epoch, later.epoch
            ),
        ),
        Some(due) if due.epoch < later.epoch && due.index == 0 && later.index == 0 => (
            Component::Cursor,
            format!(
                "epoch {} is skipped, all {skipped} of it: at an epoch's edge the checkpoint names an epoch that is over, or \
                 counts its batches in the next one",
                due.epoch
            ),
        ),
        _ => (Component::Cursor, format!("the resumed run skips {skipped}: their samples are never trained")),
    }
}

/// The micro-batch of a line.
pub(super) fn micro_batch(line: &Line) -> Option<&MicroBatch> {
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
                "the data begin again too early: these samples were trained {} before the place that the parameters come from, \
                 and are trained twice",
                micro_batches(before as u64)
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
