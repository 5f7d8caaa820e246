//! The trainer's side: what a trainer is told, what it declares, and what it writes.
//!
//! ```text
//! plan ──> trainer ──> trace
//! ```
//!
//! A **plan** says what one run must do: literal samples, the optimizer, the schedule, where to stop. A **trace**
//! says what happened, one JSON object per line: each micro-batch, each update, each save. A **contract** names
//! conventions in which trainers may differ. A judge reads traces only, so that a trainer can be in any language.
//!
//! In Rust a trainer is one method. This one counts steps and learns nothing, and its trace says exactly that:
//!
//! ```
//! use traintrue_protocol::trace::event::{Epoch, MicroBatch, Update};
//! use traintrue_protocol::trainer::record;
//! use traintrue_protocol::{Plan, Recorder, Trainer, TrainerError};
//!
//! struct Counting;
//!
//! impl Trainer for Counting {
//!     fn run(&mut self, plan: &Plan, recorder: &mut Recorder) -> Result<(), TrainerError> {
//!         let samples: Vec<u64> = (0..plan.data.samples.len() as u64).collect();
//!         let batches: Vec<&[u64]> = samples.chunks(plan.data.batch as usize).collect();
//!         let mut step = 0;
//!         for epoch in 0..plan.data.epochs {
//!             recorder.write(|| Epoch::begin(epoch))?;
//!             let mut index = 0;
//!             for window in batches.chunks(plan.train.accumulation as usize) {
//!                 for batch in window {
//!                     let samples = Some(batch.to_vec());
//!                     recorder.write(|| MicroBatch { epoch, index, samples, ..Default::default() })?;
//!                     index += 1;
//!                 }
//!                 step += 1;
//!                 let micro_batches = Some(window.len() as u64);
//!                 recorder.write(|| Update { step, micro_batches, ..Default::default() })?;
//!             }
//!             recorder.write(|| Epoch::end(epoch))?;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! // Two samples, one epoch, a window of two micro-batches.
//! let plan = Plan::parse(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/examples/plan.json")))?;
//! let mut trace = Vec::new();
//! record(&mut Counting, &plan, &mut trace)?;
//!
//! let trace = String::from_utf8(trace)?;
//! let events = trace.lines().map(|line| line.split('"').nth(3).unwrap_or_default());
//! let expected = ["run", "epoch", "micro_batch", "micro_batch", "update", "epoch", "end"];
//! assert_eq!(events.collect::<Vec<_>>(), expected);
//! # Ok::<(), TrainerError>(())
//! ```
//!
//! [`trainer_main`] makes a program of a trainer, for `traintrue run --trainer PROGRAM`; `traintrue::test_main` makes
//! every scenario a test of it. [`vocabulary`] has the closed lists of words: capabilities, components, moments,
//! memory lanes.

pub mod contract;
pub mod digest;
pub mod exit;
pub mod lanes;
pub mod limited;
pub mod nearest;
pub mod number;
pub mod plan;
pub mod recorder;
pub mod schema;
pub mod serve;
pub mod trace;
pub mod trainer;
pub mod version;
pub mod vocabulary;

pub use plan::Plan;
pub use recorder::Recorder;
pub use serve::trainer_main;
pub use trainer::{Declined, Trainer, TrainerError};
