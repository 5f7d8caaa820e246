//! The linear regression of `linear_regression.rs` with one bug: the order of an epoch comes from a hash that is keyed anew
//! in every process, as that of a `HashMap` is.
//!
//!     cargo build -p traintrue --example unseeded_order
//!     traintrue run determinism --trainer target/debug/examples/unseeded_order

use std::hash::RandomState;

#[path = "linear_regression.rs"]
mod linear_regression;

use linear_regression::LinearRegression;

/// The trainer with its bug.
pub fn trainer() -> LinearRegression<RandomState> {
    LinearRegression(RandomState::new())
}

#[allow(dead_code, reason = "tests have a main function of their own")]
fn main() -> std::process::ExitCode {
    traintrue::trainer_main(trainer)
}
