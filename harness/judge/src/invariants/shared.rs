//! What several invariants read traces with.

pub mod fields;
pub mod names;
pub mod place;
pub mod rows;
pub mod same;
pub mod spread;
pub mod steps;
pub mod stream;
