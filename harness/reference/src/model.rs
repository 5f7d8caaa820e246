//! The model: a pre-norm causal transformer with optional low-rank adapters and a projection head.

mod attention;
mod build;
mod cache;
mod dropout;
mod forward;
mod layers;
mod loss;
mod parameters;
mod pooling;
mod precision;
mod told;

pub use attention::Mask as AttentionMask;
pub use build::{Model, Norm, Size, SizeError, adapter_scale};
pub use cache::Cache;
pub use dropout::{Dropout, Mask, bernoulli};
pub use forward::{ForwardParts, Pass, forward};
pub use layers::NORM_EPS;
#[cfg(test)]
pub use layers::{gelu, norm};
pub use loss::{Losses, lm_by_row, losses, scalar};
pub use parameters::{Parameter, Parameters, from_vec, to_vec};
pub use precision::Precision;
pub use told::rows;

pub use attention::fill_then_softmax;
pub use pooling::{masked_mean, unit};
