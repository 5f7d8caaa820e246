//! Judges files that a run has left on disk: a Hugging Face checkpoint, a log, a PEFT adapter, safetensors.
//!
//! ```text
//! path ──> contents ──> log ──> events of a trace ──> the invariants over traces ──> outcome
//!                  └──> tensors, configuration, log ──> the invariants of `artefact/...`  ─┘
//! ```
//!
//! traintrue-logs reads every kind of log into one form. What a trace can express becomes trace events and is judged by
//! the invariants over traces. Loading a pickle runs code, so no pickle is ever opened.

mod check;
mod files;
pub mod rules;

pub use check::check;
pub use files::*;
