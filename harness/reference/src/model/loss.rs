//! The two losses, as sums: next-token cross-entropy over the anchors, and a contrastive loss over triplets.

use burn::tensor::{ElementConversion, Int, Tensor, TensorData, activation};
use traintrue_protocol::trace::event::Row;

use super::cache::Cache;
use super::forward::{Pass, forward};
use super::told;
use crate::data::{Batch, Rows};
use crate::engine::Engine;

/// The temperature of the contrastive loss.
const TEMPERATURE: f64 = 0.2;

/// Summed losses, each a tensor with one element.
pub struct Losses<E: Engine> {
    /// Next-token cross-entropy over the supervised positions, in nats.
    pub lm: Tensor<E, 1>,
    /// The contrastive loss over the samples, where there is a head and the batch has their views.
    pub head: Option<Tensor<E, 1>>,
    /// Keys and values that the forward passes kept. They live as long as the losses.
    pub caches: Vec<Cache<E>>,
    /// The rows with their logits, where the pass tells them.
    pub told: Vec<Row>,
}

/// The losses of a batch, from `forwards` forward passes over equal parts of its rows.
pub fn losses<E: Engine>(pass: &mut Pass<E>, batch: &Batch, forwards: usize, keep_cache: bool) -> Losses<E> {
    let rows = &batch.rows;
    let mut caches = Vec::new();
    let parts = rows.in_parts(forwards);
    let hidden = parts.iter().map(|part| {
        let mut cache = keep_cache.then(|| Cache::new(pass.model.size.layers, part.width));
        let mask = pass.mask(part);
        let hidden = forward(pass, part, 0..part.width, &mask, cache.as_mut());
        caches.extend(cache);
        hidden
    });
    let hidden = Tensor::cat(hidden.collect(), 0);
    let anchors = batch.targets.len();
    let logits = pass.logits(hidden.clone().slice([0..anchors, 0..pass.model.size.hidden]));
    let told = if pass.tells { told::rows(batch, Some(&logits)) } else { Vec::new() };
    let lm = (pass.parts.loss)(logits, &batch.targets, rows.width).sum();
    let with_views = rows.count * rows.width > anchors;
    let vectors = if with_views { pass.project(hidden, rows) } else { None };
    let head = vectors.map(|vectors| contrastive(vectors, rows, pass.device));
    Losses { lm, head, caches, told }
}

/// Cross-entropy of each anchor summed over its supervised positions, `[rows]`.
pub fn lm_by_row<E: Engine>(logits: Tensor<E, 2>, targets: &[Option<u32>], width: usize) -> Tensor<E, 1> {
    let device = &logits.device();
    let next: Vec<i64> = targets.iter().map(|target| i64::from(target.unwrap_or(0))).collect();
    let unsupervised: Vec<bool> = targets.iter().map(Option::is_none).collect();
    let next = Tensor::<E, 2, Int>::from_data(TensorData::new(next, [targets.len(), 1]), device);
    let unsupervised = Tensor::from_data(TensorData::new(unsupervised, [targets.len(), 1]), device);
    let largest = logits.clone().detach().max_dim(1);
    let logits = logits - largest;
    let surprise = logits.clone().exp().sum_dim(1).log() - logits.gather(1, next);
    surprise
        .mask_fill(unsupervised, 0.0)
        .reshape([targets.len() / width, width])
        .sum_dim(1)
        .reshape([targets.len() / width])
}

/// `softplus((a·n - a·p) / temperature)` summed over the triplets that have a token: `-log` of the positive's share.
fn contrastive<E: Engine>(vectors: Tensor<E, 2>, rows: &Rows, device: &E::Device) -> Tensor<E, 1> {
    let samples = rows.count / 3;
    let [_, d] = vectors.dims();
    let part = |at: usize| vectors.clone().slice([at * samples..(at + 1) * samples, 0..d]);
    let anchors = part(0);
    let difference = (anchors.clone() * (part(2) - part(1))).sum_dim(1) / TEMPERATURE;
    let real: Vec<f32> = rows.real.chunks_exact(rows.width).take(samples).map(any).collect();
    let real = Tensor::from_data(TensorData::new(real, [samples, 1]), device);
    (activation::softplus(difference, 1.0) * real).sum()
}

fn any(row: &[bool]) -> f32 {
    f32::from(u8::from(row.contains(&true)))
}

/// The value of a tensor with one element.
pub fn scalar<E: Engine>(tensor: &Tensor<E, 1>) -> f64 {
    tensor.clone().into_scalar().elem()
}
