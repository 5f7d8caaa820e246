//! The predicted heap peak of a micro-batch and of its update, from the estimator behind `traintrue estimate`.
//!
//! The prediction has the model's tensors only. It leaves out burn's graph nodes, indices, masks, the batch and the
//! projection head, so it is close where tensors dominate: from about 4 MB on.

use traintrue_memory::estimate::{
    Activation, Adapters, Architecture, Biases, Engine, Moments, Norm, Optimizer, Peaks, Request, Target,
    peaks,
};
use traintrue_protocol::plan::{Dtype, Forward, Train};

use crate::data::Batch;
use crate::model::Size;

/// Bytes of an f32.
pub const VALUE_BYTES: u64 = 4;

/// Forward passes per batch.
pub fn forwards(batch: &Batch, train: &Train) -> usize {
    match train.forward {
        Forward::Concatenated => 1,
        Forward::Separate => batch.rows.count / batch.samples.len(),
    }
}

/// The bytes of the largest tensor of a pass: the logits, the scores of an attention, or the inner activations of a block.
pub fn largest_bytes(size: &Size, vocabulary: u64, batch: &Batch, forwards: usize) -> u64 {
    let [rows, width, targets] =
        [batch.rows.count, batch.rows.width, batch.targets.len()].map(|it| it as u64);
    let [heads, inner] = [size.heads, size.inner].map(|it| it as u64);
    let rows_at_once = rows / forwards as u64;
    let scores = rows_at_once * heads * width * width;
    let elements = [targets * vocabulary, scores, rows_at_once * width * inner];
    VALUE_BYTES * elements.into_iter().fold(0, u64::max)
}

/// The estimator's request for a micro-batch. Its forward passes are all alive until the backward pass, so they count as
/// one.
pub fn request(
    batch: &Batch,
    train: &Train,
    keeps_cache: bool,
    recomputes: bool,
    accumulated: bool,
) -> Request {
    let samples = batch.samples.len();
    let target = |name: &String| Target::ALL.into_iter().find(|target| target.name() == name);
    let adapters = train.adapters.as_ref().map(|adapters| Adapters {
        r: adapters.r,
        targets: adapters.targets.iter().filter_map(target).collect(),
    });
    Request {
        batch: samples as u64,
        rows_per_sample: (batch.rows.count / samples) as u64,
        // The views of a sample have no next token to predict.
        labelled_rows: Some(1),
        length: batch.rows.width as u64,
        target_length: None,
        dtype: Dtype::F32,
        moments: Moments::In(Dtype::F32),
        optimizer: Optimizer::Adamw,
        adapters,
        engine: Engine::BurnNdarray,
        accumulation: if accumulated { 2 } else { 1 },
        clips: train.clip.is_some(),
        checkpointing: recomputes,
        cache: keeps_cache,
    }
}

/// The peaks of a micro-batch and of the update after it; none for a request that the estimator refuses.
pub fn predict(size: &Size, vocabulary: u64, dropout: f64, request: &Request) -> Option<Peaks> {
    let Size { layers, hidden, heads, inner, .. } = *size;
    let [layers, hidden, heads, inner] = [layers, hidden, heads, inner].map(|extent| extent as u64);
    let architecture = Architecture {
        gated: false,
        activation: Activation::Gelu,
        norm: Norm::ScaleAndShift,
        rotary: false,
        biases: Biases { qv: true, k: true, output: true, inner: true, head: false },
        dropout: dropout > 0.0,
        ..Architecture::decoder(vocabulary, hidden, layers, heads, inner)
    };
    peaks(&architecture, request).ok()
}
