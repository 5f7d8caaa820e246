//! Scenarios, plans, traces, invariants and verdicts that hold a training loop to what training means.
//!
//! ```text
//! scenario ──> plan ──> trainer ──> trace ──> invariants ──> verdict ──> report
//! ```
//!
//! This crate is everything but a trainer: it names no framework and sees only traces.

pub mod arithmetic;
pub mod bound;
pub mod check;
pub mod contract;
pub mod exit;
pub mod finding;
pub mod invariants;
pub mod judge;
pub mod kill_matrix;
pub mod nearest;
pub mod number;
pub mod parallel;
pub mod plan;
pub mod program;
pub mod report;
pub mod runner;
pub mod scenario;
pub mod suite;
pub mod trace;
pub mod verdict;
