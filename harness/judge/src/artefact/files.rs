//! The files themselves, read and understood; nothing is judged here.

pub(super) mod adapter;
mod contents;
pub(super) mod error;
pub(super) mod events;
pub(super) mod given;
mod index;
pub(super) mod left;
mod tensors;
#[cfg(test)]
pub(crate) mod testing;

pub use adapter::{Adapter, AdapterConfig, Explained, Part, Targets, module_of};
pub(crate) use adapter::{ends_with_name, names_end};
pub use contents::is_trace;
pub use error::ArtefactError;
pub use given::{Curve, Given, MICRO_BATCHES_MOST};
pub use index::Index;
pub use tensors::{Tensor, TensorFile};
