//! Files that a run has left behind, judged as they lie there: a Hugging Face checkpoint, a PEFT adapter, safetensors.
//!
//! ```text
//! path ──> contents ──> trainer_state.json ──> events of a trace ──> the invariants over traces ──> outcome
//!                  └──> tensors, configuration, log ──> the invariants of `artefact/...`  ────────────┘
//! ```
//!
//! What a trace has a place for becomes one and is judged like any other. A pickle runs code when it is loaded: none is ever
//! opened.

mod adapter;
mod check;
mod contents;
mod error;
mod given;
mod index;
mod left;
mod python_json;
mod tensors;
#[cfg(test)]
pub(crate) mod testing;
mod trainer_state;

pub use adapter::{Adapter, AdapterConfig, Explained, Part, Targets, module_of};
pub(crate) use adapter::{ends_with_name, names_end};
pub use check::check;
pub use contents::is_trace;
pub use error::ArtefactError;
pub use given::{Curve, Given, MICRO_BATCHES_MOST};
pub use index::Index;
pub use tensors::{Tensor, TensorFile};
pub use trainer_state::{Best, Entry, TrainerState};
