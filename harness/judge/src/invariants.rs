//! Invariants: pure functions from traces to findings and to the number of comparisons made.
//!
//! One file per invariant, or per family that shares its reading. Each file opens with what it verifies and what it does
//! not.

pub mod device;
pub mod memory;
pub mod probes;
pub mod protocol;
pub mod ranks;
pub mod recorded;
pub mod resume;
pub mod shared;
pub mod training;

#[cfg(test)]
mod hostile;
#[cfg(test)]
mod not_finite;
