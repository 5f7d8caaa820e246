//! What training a transformer will need, part by part, before anything is allocated.
//!
//! Every part is a list of tensors that follows from the architecture; no figure is fitted to a measurement. They are added
//! up as they stand at the end of a forward pass inside an accumulation window, when the gradients of earlier micro-batches
//! are there already: the peak of a run that accumulates. Not in it, because it does not follow from a model: the CUDA
//! context, workspaces of kernels, temporaries of an optimizer, f32 copies of half-precision weights, fragmentation.

mod activations;
mod architecture;
mod config;
mod models;
mod request;
mod show;
mod tensors;

use serde::{Deserialize, Serialize};
use traintrue_protocol::plan::SCHEMA;

use crate::bytes::Bytes;
use activations::Saved;

pub use architecture::{Architecture, Biases, Norm, Target};
pub use config::{ConfigError, read_config};
pub use models::{UnknownModel, named, names};
pub use request::{Adapters, Attention, Optimizer, Request, RequestError};
pub use show::text;
pub use tensors::Tensors;

/// One part of what a run needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// Its name.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// Where they come from, in a few words.
    #[serde(default)]
    pub of: String,
}

/// What a run needs, against what it may use.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// The version of this document.
    pub schema: u32,
    /// The model.
    pub model: String,
    /// Parameters of the model, its adapters included.
    pub parameters: u64,
    /// Those that learn.
    pub trained: u64,
    /// The parts.
    pub parts: Vec<Part>,
    /// The bytes of all parts.
    pub total_bytes: u64,
    /// What may be used.
    pub capacity_bytes: Option<u64>,
    /// Whether all parts fit into it; true where there is no capacity.
    pub fits: bool,
}

/// Estimates what training `architecture`, called `model`, will need. Fails where the request does not suit the model.
pub fn estimate(
    model: &str,
    architecture: &Architecture,
    request: &Request,
    capacity: Option<Bytes>,
) -> Result<Estimate, RequestError> {
    request.check(architecture)?;
    let width = u128::from(request.dtype.bytes());
    let adapters_of = |width: u128| {
        let of = |it: &Adapters| architecture.adapters(it.r, &it.targets, width);
        request.adapters.as_ref().map(of).unwrap_or_default()
    };
    let trained_of =
        |width| if request.adapters.is_some() { adapters_of(width) } else { architecture.parameters(width) };
    let mut moments = Tensors::default();
    moments.add_all(request.optimizer.moments(), &trained_of(request.moments.bytes().into()));
    let saved = Saved { architecture, request };
    let cache = if request.cache { saved.cache() } else { Tensors::default() };

    let (base, trained) = (architecture.parameters(1).bytes(), trained_of(1).bytes());
    let adapters = adapters_of(1).bytes();
    let moments_of = format!("{} x {trained} x {} B", request.optimizer.moments(), request.moments.bytes());
    let parts = [
        ("parameters", architecture.parameters(width), format!("{base} x {width} B")),
        ("adapters", adapters_of(width), format!("{adapters} x {width} B")),
        ("gradients", trained_of(width), format!("{trained} x {width} B")),
        ("moments", moments, moments_of),
        ("activations", saved.activations(), activations_of(architecture, request)),
        ("logits", saved.logits(), "in f32".to_owned()),
        ("cache", cache, "keys and values".to_owned()),
    ];
    let reserve: u128 = parts.iter().map(|(_, tensors, _)| tensors.reserve_bytes()).sum();
    let mut parts: Vec<Part> = parts.into_iter().map(|(name, it, of)| part(name, it.bytes(), of)).collect();
    parts.push(part("reserve", reserve, "what an allocator rounds up".to_owned()));
    let total = parts.iter().fold(0, |total: u64, part| total.saturating_add(part.bytes));
    Ok(Estimate {
        schema: SCHEMA,
        model: model.to_owned(),
        parameters: clipped(base + adapters),
        trained: clipped(trained),
        parts,
        total_bytes: total,
        capacity_bytes: capacity.map(|it| it.0),
        fits: capacity.is_none_or(|it| total <= it.0),
    })
}

fn part(name: &str, bytes: u128, of: String) -> Part {
    Part { name: name.to_owned(), bytes: clipped(bytes), of }
}

/// More than 16 EiB are 16 EiB: nothing has them.
fn clipped(bytes: u128) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn activations_of(architecture: &Architecture, request: &Request) -> String {
    let lengths = match request.target_length {
        Some(target) => format!("{} and {target}", request.length),
        None => request.length.to_string(),
    };
    let layers = architecture.encoder_layers + architecture.layers;
    let kept = if request.checkpointing { "the inputs, and all of one," } else { "all" };
    format!("{kept} of {layers} blocks, {} rows x {lengths} positions", request.rows())
}

#[cfg(test)]
mod tests;
