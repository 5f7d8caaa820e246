//! Scenarios, plans, traces, invariants and verdicts that hold a training loop to what training means.
//!
//! ```text
//! scenario ──> plan ──> trainer ──> trace ──> invariants ──> verdict ──> report
//! ```
//!
//! This crate is everything but a trainer: it names no framework and sees only traces.

pub mod arithmetic;
pub mod artefact;
pub mod bound;
pub mod check;
pub mod config;
pub mod contract;
pub mod digest;
pub mod exit;
pub mod finding;
pub mod invariants;
pub mod judge;
pub mod kill_matrix;
pub mod limited;
pub mod memory;
pub mod nearest;
pub mod number;
pub mod parallel;
pub mod plan;
pub mod program;
pub mod recorder;
pub mod report;
pub mod runner;
pub mod scenario;
pub mod schema;
mod serve;
pub mod suite;
mod test_main;
pub mod trace;
pub mod trainer;
pub mod verdict;
pub mod waivers;

pub use plan::Plan;
pub use recorder::Recorder;
pub use serve::trainer_main;
pub use test_main::test_main;
pub use trainer::{Trainer, TrainerError};
