//! The memory that training a transformer needs, part by part, before anything is allocated.
//!
//! A model is taken apart into operations (`model.rs`); an engine says what it keeps of each for the backward pass, and
//! what it holds while it works (`torch.rs`, `burn.rs`); the peak is the most that is held at any operation
//! (`walk.rs`), or in the optimizer's update. Every term follows from the architecture, and no figure is fitted to a
//! measurement: `golden/torch-memory` has the measurements that it is held to.
//!
//! Not in it, because it does not follow from a model: the CUDA context, workspaces of kernels, fragmentation, f32
//! copies of half-precision weights, and the copy of all trained weights that PyTorch's AdamW makes where it updates
//! them together, as it does on a GPU.

mod architecture;
mod block;
mod burn;
mod config;
mod engine;
mod fit;
mod model;
mod models;
mod operation;
mod parameters;
mod request;
mod show;
mod tensors;
mod torch;
mod walk;

use serde::{Deserialize, Serialize};
use traintrue_protocol::plan::SCHEMA;

use crate::bytes::Bytes;
use model::Parts;
use walk::{Earlier, Peak};

pub use architecture::{Activation, Architecture, Biases, Experts, Head, Input, Norm, Order, Target};
pub use config::{ConfigError, read_config};
pub use engine::Engine;
pub use models::{UnknownModel, named, names};
pub use request::{Adapters, Moments, Optimizer, Request, RequestError};
pub use show::text;
pub use tensors::Tensors;

/// One part of what a run needs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Part {
    /// `parameters`, `gradients`, `activations` and so on.
    pub name: String,
    /// Its bytes.
    pub bytes: u64,
    /// What the bytes are for, as the table shows it.
    #[serde(default)]
    pub of: String,
}

/// A change that needs less memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Saving {
    /// The change, as command-line flags.
    pub change: String,
    /// What a run needs with the change.
    pub total_bytes: u64,
    /// Whether it fits with the change.
    pub fits: bool,
}

/// What a run needs, compared with the capacity.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Estimate {
    /// The version of this document.
    pub schema: u32,
    /// The model.
    pub model: String,
    /// Parameters of the model, its adapters included.
    pub parameters: u64,
    /// Parameters that are trained.
    pub trained: u64,
    /// The operation at the peak.
    #[serde(default)]
    pub peak: String,
    /// The parts, as they are at the peak.
    pub parts: Vec<Part>,
    /// The bytes of all parts.
    pub total_bytes: u64,
    /// The available memory, in bytes.
    pub capacity_bytes: Option<u64>,
    /// Whether the total fits the capacity. True without a capacity.
    pub fits: bool,
    /// Changes that need less, if the total does not fit.
    #[serde(default)]
    pub savings: Vec<Saving>,
}

/// Estimates what training `architecture`, called `model`, will need. Fails if the request does not fit the model.
pub fn estimate(
    model: &str,
    architecture: &Architecture,
    request: &Request,
    capacity: Option<Bytes>,
) -> Result<Estimate, RequestError> {
    let mut found = needed(model, architecture, request, capacity)?;
    if !found.fits {
        found.savings = fit::savings(architecture, request, capacity);
    }
    Ok(found)
}

fn needed(
    model: &str,
    architecture: &Architecture,
    request: &Request,
    capacity: Option<Bytes>,
) -> Result<Estimate, RequestError> {
    request.check(architecture)?;
    let [passes, update] = passes_and_update(architecture, request);
    let peak = if update.bytes() > passes.bytes() { update } else { passes };
    let [parameters, adapters, moments, cache] = standing(architecture, request);
    let trained = trained(architecture, request, 1).bytes();
    let gradients_of = format!("{trained} x {} B, as far as they exist at the peak", request.dtype.bytes());
    let all = architecture.parameters(1).bytes() + self::adapters(architecture, request, 1).bytes();
    let parts = [
        parameters,
        adapters,
        ("gradients", peak.gradients, gradients_of),
        moments,
        ("activations", peak.kept, activations_of(architecture, request)),
        ("working", peak.working, "the operation at the peak, and its gradients".to_owned()),
        cache,
    ];
    let reserve: u128 = parts.iter().map(|(_, tensors, _)| tensors.reserve_bytes()).sum();
    let mut parts: Vec<Part> = parts.into_iter().map(|(name, it, of)| part(name, it.bytes(), of)).collect();
    parts.push(part("reserve", reserve, "rounding by the caching allocator".to_owned()));
    let total = parts.iter().fold(0, |total: u64, part| total.saturating_add(part.bytes));
    Ok(Estimate {
        schema: SCHEMA,
        model: model.to_owned(),
        parameters: clipped(all),
        trained: clipped(trained),
        peak: peak.place,
        parts,
        total_bytes: total,
        capacity_bytes: capacity.map(|it| it.0),
        fits: capacity.is_none_or(|it| total <= it.0),
        savings: Vec::new(),
    })
}

/// Peaks without the caching allocator's rounding: what a process counts on its own heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Peaks {
    /// Of forward and backward of a micro-batch.
    pub passes_bytes: u64,
    /// Of the update.
    pub update_bytes: u64,
}

/// The peaks of one micro-batch and of an update. Fails if the request does not fit the model.
pub fn peaks(architecture: &Architecture, request: &Request) -> Result<Peaks, RequestError> {
    request.check(architecture)?;
    let standing = standing(architecture, request);
    let fixed: u128 = standing.iter().map(|(_, tensors, _)| tensors.bytes()).sum();
    let [passes, update] = passes_and_update(architecture, request);
    Ok(Peaks { passes_bytes: clipped(fixed + passes.bytes()), update_bytes: clipped(fixed + update.bytes()) })
}

/// What is held beside weights and moments: by the two passes, and by the update.
fn passes_and_update(architecture: &Architecture, request: &Request) -> [Peak; 2] {
    let engine = request.engine.keeps(request);
    let parts = Parts { architecture, request, engine: &*engine };
    let earlier = match (request.accumulation, engine.adds_at_once()) {
        (1, _) => Earlier::None,
        (_, true) => Earlier::AddedAtOnce,
        (_, false) => Earlier::AddedAtTheEnd,
    };
    let gradients = trained(architecture, request, request.dtype.bytes().into());
    let update = Peak {
        place: "the optimizer's update".to_owned(),
        kept: Tensors::default(),
        working: engine.update(&gradients),
        gradients,
    };
    [walk::peak(&parts.groups(), earlier), update]
}

/// The tensors that learn.
fn trained(architecture: &Architecture, request: &Request, width: u128) -> Tensors {
    match request.adapters {
        Some(_) => adapters(architecture, request, width),
        None => architecture.learnt(width),
    }
}

fn adapters(architecture: &Architecture, request: &Request, width: u128) -> Tensors {
    let of = |it: &Adapters| architecture.adapters(it.r, &it.targets, width);
    request.adapters.as_ref().map(of).unwrap_or_default()
}

/// A part by name, and where it comes from.
type Named = (&'static str, Tensors, String);

/// What is held from the first step to the last.
fn standing(architecture: &Architecture, request: &Request) -> [Named; 4] {
    let width = u128::from(request.dtype.bytes());
    let trained = trained(architecture, request, 1);
    let mut moments = Tensors::default();
    moments.add_all(request.optimizer.moments(), &trained.map(|values| request.moments.bytes(values)));
    let moments_of =
        format!("{} x {} x {}", request.optimizer.moments(), trained.bytes(), request.moments.name());
    let cache = if request.cache { model::cache(architecture, request) } else { Tensors::default() };
    let of = |values: Tensors| format!("{} x {width} B", values.bytes());
    [
        ("parameters", architecture.parameters(width), of(architecture.parameters(1))),
        ("adapters", adapters(architecture, request, width), of(adapters(architecture, request, 1))),
        ("moments", moments, moments_of),
        ("cache", cache, "keys and values".to_owned()),
    ]
}

fn part(name: &str, bytes: u128, of: String) -> Part {
    Part { name: name.to_owned(), bytes: clipped(bytes), of }
}

/// Saturates at 16 EiB, more than any machine has.
fn clipped(bytes: u128) -> u64 {
    u64::try_from(bytes).unwrap_or(u64::MAX)
}

fn activations_of(architecture: &Architecture, request: &Request) -> String {
    let lengths = match request.target_length {
        Some(target) => format!("{} and {target}", request.length),
        None => request.length.to_string(),
    };
    let layers = architecture.encoder_layers + architecture.layers;
    let kept = if request.checkpointing { "the inputs, and all activations of one," } else { "all" };
    format!("{kept} of {layers} blocks, {} rows x {lengths} positions", request.rows())
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod torch_memory;
