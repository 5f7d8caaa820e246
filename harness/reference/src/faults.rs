//! The museum of faults: known bugs, each a set of wrong parts in the place of right ones. One file a family.
//!
//! What each fault must break is written in the scenario that it is planted in.

mod accumulation;
mod adapters;
mod breaker;
mod cache;
mod concat;
mod device;
mod estimate;
mod evaluation;
mod leaks;
mod numerics;
mod padding;
mod resume;
mod schedule;
mod seeding;
mod store;
mod unload;

use crate::engine::Engine;
use crate::parts::Parts;

/// A fault: its id, and the swap that plants it.
pub type Fault<E> = (&'static str, fn(&mut Parts<E>));

pub use leaks::controls;

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
        estimate::table(),
        evaluation::table(),
        store::table(),
        seeding::table(),
        leaks::table(),
        breaker::table(),
        unload::table(),
        device::table(),
    ]
    .concat()
}
