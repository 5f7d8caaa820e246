//! Files that a run has left behind, judged as they lie there: a Hugging Face checkpoint, a PEFT adapter, safetensors.
//!
//! ```text
//! path ──> contents ──> trainer_state.json ──> events of a trace ──> the invariants over traces ──> outcome
//!                  └──> tensors, configuration, log ──> the invariants of `artefact/...`  ────────────┘
//! ```
//!
//! What a trace has a place for becomes one and is judged like any other. A pickle runs code when it is loaded: none is ever
//! opened.

mod check;
mod files;
pub mod rules;

pub use check::check;
pub use files::*;
