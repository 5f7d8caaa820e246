//! From the traces that a trainer leaves to findings and verdicts. Pure: it starts no process and reads no scenario
//! file.
//!
//! An **invariant** is a [`rule::Rule`]: a pure function from traces to a [`finding::Sheet`]. The sheet counts
//! comparisons and keeps the first one that failed, with its line, the component to look at and the likely cause. No
//! comparison is no pass.
//!
//! One trace to a finding: the trainer below wrote a loss that is not a number.
//!
//! ```
//! use traintrue_judge::pass::judge_trace;
//! use traintrue_judge::rules;
//! use traintrue_protocol::contract::Contract;
//! use traintrue_protocol::plan::Plan;
//! use traintrue_protocol::trace::event::{Loss, MicroBatch, Run};
//! use traintrue_protocol::trace::TraceWriter;
//!
//! let plan = Plan::parse(include_str!(concat!(env!("CARGO_MANIFEST_DIR"), "/../protocol/examples/plan.json")))?;
//! let run = Run {
//!     schema: 1,
//!     trainer: "mine 1.0".into(),
//!     device: "cpu".into(),
//!     scenario: plan.scenario.clone(),
//!     run: plan.run.clone(),
//!     plan,
//!     recorded: None,
//!     contract: Contract::default(),
//! };
//! let loss = Loss::new("lm", f64::NAN, 2);
//! let micro_batch = MicroBatch { losses: vec![loss], ..Default::default() };
//!
//! let folder = tempfile::tempdir()?;
//! let path = folder.path().join("once.jsonl");
//! let mut trace = TraceWriter::new(std::fs::File::create(&path)?);
//! trace.write(&run.into())?;
//! trace.write(&micro_batch.into())?;
//!
//! let finite = rules::find("finite/everywhere").expect("it is an invariant");
//! let judged = judge_trace(&path, false, &[finite]);
//! let (_, sheet) = &judged.sheets[0];
//! let broken = sheet.broken.as_ref().expect("a NaN breaks it");
//! assert_eq!((broken.line, broken.component.name()), (2, "numerics"));
//! # Ok::<(), Box<dyn std::error::Error>>(())
//! ```
//!
//! [`case::judge`] does the same for all runs of a scenario and adds the invariants over runs and pairs of runs. It
//! shares no arithmetic with a trainer: [`arithmetic`] counts again, from the plan in the trace.

#![forbid(unsafe_code)]

pub mod arithmetic;
pub mod artefact;
pub mod bound;
pub mod case;
pub mod evidence;
pub mod expectation;
pub mod finding;
pub mod invariants;
mod near;
pub mod pass;
pub mod rule;
pub mod rules;
pub mod tally;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
pub mod verdict;
