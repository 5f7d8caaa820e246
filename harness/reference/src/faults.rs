//! The museum of faults: known bugs, each a set of wrong parts in place of right ones. One file per family.
//!
//! The scenario that plants a fault lists the invariants that the fault must break.

mod accumulation;
mod adapters;
mod attention;
mod backends;
mod breaker;
mod cache;
mod concat;
mod data;
mod device;
mod dropout;
mod estimate;
mod evaluation;
mod leaks;
mod loss;
mod numerics;
mod optimizer;
mod padding;
mod ranks;
mod resume;
mod schedule;
mod seeding;
mod store;
mod unload;

use crate::engine::Engine;
use crate::error::TrainError;
use crate::parts::Parts;

/// A fault: its id, and the swap that plants it.
pub type Fault<E> = (&'static str, fn(&mut Parts<E>));

pub use leaks::controls;

/// The right parts with these faults and controls planted, in order.
pub fn planted<E: Engine>(wanted: &[String]) -> Result<Parts<E>, TrainError> {
    let mut parts = Parts::textbook();
    let table = [table::<E>(), controls()].concat();
    for wanted in wanted {
        let found = table.iter().find(|(id, _)| id == wanted);
        let (_, swap) = found.ok_or_else(|| TrainError::UnknownFault(wanted.clone()))?;
        swap(&mut parts);
    }
    Ok(parts)
}

/// All faults.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    [
        data::table(),
        resume::table(),
        schedule::table(),
        ranks::table(),
        optimizer::table(),
        loss::table(),
        dropout::table(),
        attention::table(),
        padding::table(),
        backends::table(),
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
