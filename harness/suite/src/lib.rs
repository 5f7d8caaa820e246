//! Scenarios that hold a training loop to what training means.
//!
//! ```text
//! scenario ──> plan ──> trainer ──> trace ──> invariants ──> verdict ──> report
//! ```
//!
//! This crate is everything but a trainer: it names no framework and sees only traces.
//!
//! **Your trainer under test.** In a test with `harness = false`, one line makes every scenario a test of its own. A
//! scenario that needs what the trainer cannot do is ignored, with the reason:
//!
//! ```no_run
//! # struct MyTrainer;
//! # impl traintrue::Trainer for MyTrainer {
//! #     fn run(&mut self, _: &traintrue::Plan, _: &mut traintrue::Recorder) -> Result<(), traintrue::TrainerError> {
//! #         Ok(())
//! #     }
//! # }
//! fn main() {
//!     traintrue::test_main(|| MyTrainer);
//! }
//! ```
//!
//! **From a scenario to plans.** A scenario file has counts; expanding it cuts a corpus into samples and makes one
//! literal plan per process:
//!
//! ```
//! use std::path::Path;
//! use traintrue::scenario::{Catalogue, Corpus, expand};
//!
//! let catalogue = Catalogue::load(None)?;
//! let scenario = catalogue.find("resume-mid-window").expect("it is shipped");
//! let runs = expand(scenario, &Corpus::shipped()?, Path::new("checkpoints"))?.runs;
//!
//! let cut = runs.iter().find(|run| run.name == "cut-1603").expect("it is a run");
//! let [before, after] = cut.segments.as_slice() else { panic!("one cut makes two processes") };
//! assert_eq!(before.plan.stop.as_ref().map(|stop| stop.micro_batches), Some(1603));
//! assert!(after.plan.start.is_some());
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`suite`] carries out and judges scenarios, [`kill_matrix`] plants faults, [`check`](check::check) judges recorded
//! traces, and [`report`] writes the results. On Linux, `crash` kills any script while it saves.
//! `harness/suite/examples` has whole trainers without a framework.

#![forbid(unsafe_code)]

pub mod check;
pub mod config;
#[cfg(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64")))]
pub mod crash;
pub mod cut;
pub mod init;
pub mod interrupt;
pub mod kill_matrix;
pub mod merge;
pub mod program;
pub mod record;
pub mod report;
pub mod reproduce;
pub mod runner;
pub mod scenario;
pub mod schema;
pub mod suite;
mod test_main;
pub mod waivers;

pub use test_main::{test_main, test_main_with};
pub use traintrue_protocol::*;
