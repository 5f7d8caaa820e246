//! Scenarios that hold a training loop to what training means.
//!
//! ```text
//! scenario ──> plan ──> trainer ──> trace ──> invariants ──> verdict ──> report
//! ```
//!
//! This crate is everything but a trainer: it names no framework and sees only traces.

#![forbid(unsafe_code)]

pub mod check;
pub mod config;
pub mod kill_matrix;
pub mod program;
pub mod report;
pub mod reproduce;
pub mod runner;
pub mod scenario;
pub mod schema;
pub mod suite;
mod test_main;
pub mod waivers;

pub use test_main::test_main;
pub use traintrue_protocol::*;
