//! The museum of faults: known bugs, each a set of wrong parts in the place of right ones. One file a family.
//!
//! What each fault must break is written in the scenario that it is planted in.

mod accumulation;
mod adapters;
mod cache;
mod concat;
mod evaluation;
mod numerics;
mod padding;
mod resume;
mod schedule;
mod seeding;
mod store;

use crate::engine::Engine;
use crate::parts::Parts;

/// A fault: its id, and the swap that plants it.
pub type Fault<E> = (&'static str, fn(&mut Parts<E>));

/// All faults.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    [
        resume::table(),
        schedule::table(),
        padding::table(),
        numerics::table(),
        adapters::table(),
        concat::table(),
        accumulation::table(),
        cache::table(),
        evaluation::table(),
        store::table(),
        seeding::table(),
    ]
    .concat()
}
