//! Faults of a resume: saved state is not restored, or is restored in the wrong unit.

use traintrue_protocol::contract::Tail;
use traintrue_protocol::trace::event::Cursor;

use super::Fault;
use crate::engine::Engine;
use crate::window::Place;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("boundary-from-batch-index", |parts| {
            parts.window.closes = every_kth_index;
            parts.resume.window = |_, _| {};
        }),
        ("counter-restarted", |parts| parts.resume.window = |_, _| {}),
        ("skip-in-samples", |parts| {
            parts.resume.cursor = |state, record, batch| {
                let Cursor { epoch, micro_batches } = record.cursor;
                state.cursor = Cursor { epoch, micro_batches: micro_batches / batch };
            };
        }),
        ("second-resume-loses-offset", |parts| parts.unchanged.saved_cursor = since_the_last_load),
        ("epoch-0-order-replayed", |parts| parts.resume.sampler = |state, _| state.sampler_epoch = 0),
        ("rng-not-restored", |parts| parts.resume.rng = |_, _| {}),
        ("moments-not-restored", |parts| parts.resume.moments = |_, _| {}),
        ("schedule-not-restored", |parts| parts.resume.schedule = |_, _| {}),
        ("best-not-restored", |parts| parts.resume.best = |_, _| {}),
        ("step-off-by-one", |parts| parts.resume.step = |state, record| state.step = record.step + 1),
    ]
}

/// `(batch_idx + 1) % accumulation == 0`, as in report 5.
fn every_kth_index(place: &Place) -> bool {
    let tail = place.contract.tail == Tail::Flush && place.ends_epoch();
    (place.index + 1).is_multiple_of(place.grouping.accumulation) || tail
}

fn since_the_last_load(now: Cursor, began: Cursor) -> Cursor {
    if now.epoch != began.epoch {
        return now;
    }
    Cursor { epoch: now.epoch, micro_batches: now.micro_batches - began.micro_batches }
}
