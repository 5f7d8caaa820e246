//! From the traces that a trainer leaves to findings and verdicts. Pure: it starts no process and reads no scenario file.

#![forbid(unsafe_code)]

pub mod arithmetic;
pub mod artefact;
pub mod bound;
pub mod case;
pub mod evidence;
pub mod expectation;
pub mod finding;
pub mod invariants;
pub mod pass;
pub mod rule;
pub mod rules;
pub mod tally;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
pub mod verdict;
