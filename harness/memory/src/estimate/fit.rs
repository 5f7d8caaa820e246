//! Changes that make a run fit, each with the memory that the run then needs.

use super::architecture::{Architecture, Target};
use super::engine::Engine;
use super::request::{Adapters, Moments, Optimizer, Request};
use super::{Estimate, Saving, needed};
use crate::bytes::Bytes;

/// The rank of adapters that are proposed.
const RANK: u64 = 16;

/// The changes that need less than the request, by themselves, and all of them that keep what is trained together.
pub(super) fn savings(
    architecture: &Architecture,
    request: &Request,
    capacity: Option<Bytes>,
) -> Vec<Saving> {
    let of = |request: &Request| needed("", architecture, request, capacity).ok();
    let now = of(request).map_or(u64::MAX, |it| it.total_bytes);
    let mut all = request.clone();
    let mut proposed = Vec::new();
    for (change, apply) in CHANGES {
        let mut changed = request.clone();
        if apply(&mut changed) {
            apply(&mut all);
            proposed.push((change.to_owned(), changed));
        }
    }
    if proposed.len() > 1 {
        proposed.push(("all of these".to_owned(), all.clone()));
    }
    proposed.extend(smaller_batch(request, of));
    if of(&all).is_some_and(|it| !it.fits) {
        proposed.extend(smaller_batch(&all, of).map(|(change, it)| (format!("all of these, {change}"), it)));
    }
    proposed.extend(adapters(architecture, request));
    let saving = |(change, changed): (String, Request)| {
        let found = of(&changed)?;
        Some(Saving { change, total_bytes: found.total_bytes, fits: found.fits })
    };
    proposed.into_iter().filter_map(saving).filter(|it| it.total_bytes < now).collect()
}

/// A change that trains the same: what it is called, and what it does; false where it is made already.
type Change = (&'static str, fn(&mut Request) -> bool);

const CHANGES: [Change; 3] = [
    ("--checkpointing", |request| !std::mem::replace(&mut request.checkpointing, true)),
    ("--attention sdpa", |request| {
        std::mem::replace(&mut request.engine, Engine::TorchSdpa) == Engine::TorchEager
    }),
    ("--moments 8bit", |request| {
        let are_large = request.moments != Moments::EightBit && request.optimizer != Optimizer::Sgd;
        request.moments = Moments::EightBit;
        are_large
    }),
];

/// The largest part of the batch that fits, or a single sample: as many micro-batches more in a window.
fn smaller_batch(request: &Request, of: impl Fn(&Request) -> Option<Estimate>) -> Option<(String, Request)> {
    let parts = (2..=request.batch).filter(|parts| request.batch.is_multiple_of(*parts));
    let smaller = parts.map(|parts| Request {
        batch: request.batch / parts,
        accumulation: request.accumulation.saturating_mul(parts),
        ..request.clone()
    });
    let fits = |request: &Request| of(request).is_some_and(|it| it.fits);
    let mut last = None;
    for smaller in smaller {
        let found = fits(&smaller);
        last = Some(smaller);
        if found {
            break;
        }
    }
    last.map(|it| (format!("--batch {} --accumulation {}", it.batch, it.accumulation), it))
}

/// Adapters on queries and values, or on the output where these are part of one linear.
fn adapters(architecture: &Architecture, request: &Request) -> Option<(String, Request)> {
    if request.adapters.is_some() {
        return None;
    }
    let targets = if architecture.fused_qkv {
        vec![Target::Q, Target::K, Target::V]
    } else {
        vec![Target::Q, Target::V]
    };
    let names: Vec<&str> = targets.iter().map(|it| it.name()).collect();
    let change = format!("--adapters {RANK} --targets {}", names.join(","));
    Some((change, Request { adapters: Some(Adapters { r: RANK, targets }), ..request.clone() }))
}
