//! Probes: forward passes outside training. They change nothing, and the trace shows their outputs per row.

use burn::tensor::Tensor;
use traintrue_protocol::digest::sketch;
use traintrue_protocol::number::Number;
use traintrue_protocol::plan::{Plan, Probe};
use traintrue_protocol::trace::event::{self, ProbeGradient, ProbeRow};

use crate::data::{Batch, collate};
use crate::engine::{Engine, Inner};
use crate::events::SKETCHES;
use crate::model::{Cache, Dropout, Parameters, Pass, Precision, forward, losses, to_vec};
use crate::optimizer::norm;
use crate::parts::Parts;
use crate::rng;
use crate::state::State;
use crate::turn::Turn;

/// Sums in the sketch of one position's logits.
const LOGIT_SKETCHES: u64 = 2;

/// Makes one probe; `at` is `start`, `end` or `cycle-N`.
pub fn probe<E: Engine>(
    probe: &Probe,
    at: &str,
    plan: &Plan,
    parts: &Parts<E>,
    state: &State<E>,
    device: &E::Device,
) -> event::Probe {
    let padding = probe.padding.unwrap_or(plan.data.padding);
    let contrastive = !plan.train.heads.is_empty();
    let batch =
        collate(&parts.collate, &plan.data, &plan.data.samples, &padding, &probe.samples, contrastive);
    let mut dropout = Dropout::new(0.0, rng::dropout(plan.seed, 0));
    let mut pass = Pass {
        model: &state.model,
        // Without gradients: burn frees a tracked graph only in a backward pass, and most probes have none.
        weights: &state.parameters.leaves::<E>(None),
        parts: &parts.forward,
        dropout: &mut dropout,
        precision: Precision(probe.dtype.unwrap_or(plan.train.dtype)),
        tells: false,
        device,
    };
    let (rows, cache_bytes) = outputs(&mut pass, &batch, probe.cached);
    let gradients = if probe.gradients {
        let turn = Turn::take();
        let weights = state.parameters.leaves::<E>(Some(&turn));
        let found = joint_loss(&mut Pass { weights: &weights, ..pass }, &batch).backward();
        sketches::<E>(&state.parameters, &weights, &found)
    } else {
        Vec::new()
    };
    event::Probe {
        name: probe.name.clone(),
        at: Some(at.to_owned()),
        rows,
        width: Some(batch.rows.width as u64),
        cache_bytes: Some(cache_bytes),
        gradients,
    }
}

/// Both losses as means over the batch.
fn joint_loss<E: Engine>(pass: &mut Pass<E>, batch: &Batch) -> Tensor<E, 1> {
    let losses = losses(pass, batch, 1, false);
    let lm = losses.lm * crate::window::one_over(batch.counts.targets as f64);
    match losses.head {
        Some(head) => lm + head * crate::window::one_over(batch.counts.samples as f64),
        None => lm,
    }
}

fn outputs<E: Engine>(pass: &mut Pass<E>, batch: &Batch, cached: bool) -> (Vec<ProbeRow>, u64) {
    let rows = &batch.rows;
    let mask = pass.mask(rows);
    let mut cache = cached.then(|| Cache::new(pass.model.size.layers, rows.width));
    let d = pass.model.size.hidden;
    let hidden = match &mut cache {
        None => forward(pass, rows, 0..rows.width, &mask, None),
        Some(cache) => {
            let position = |at: usize| {
                let hidden = forward(pass, rows, at..at + 1, &mask.part(at, at + 1), Some(cache));
                hidden.reshape([rows.count, 1, d])
            };
            Tensor::cat((0..rows.width).map(position).collect(), 1).reshape([rows.count * rows.width, d])
        }
    };
    let anchors = batch.targets.len();
    let logits = pass.logits(hidden.clone().slice([0..anchors, 0..d]));
    let losses = to_vec((pass.parts.loss)(logits.clone(), &batch.targets, rows.width));
    let vectors = pass.project(hidden, rows).map(to_vec).unwrap_or_default();
    let logits = to_vec(logits);
    let (vocabulary, projection) = (logits.len() / anchors, vectors.len() / rows.count);
    let row = |row: usize| {
        let logits = &logits[row * rows.width * vocabulary..(row + 1) * rows.width * vocabulary];
        let vector = &vectors[row * projection..(row + 1) * projection];
        let real = &rows.real[row * rows.width..(row + 1) * rows.width];
        let at_tokens = logits.chunks_exact(vocabulary).zip(real).filter(|(_, real)| **real);
        ProbeRow {
            loss: Number(f64::from(losses[row])),
            logits: at_tokens.flat_map(|(logits, _)| sketch(logits, LOGIT_SKETCHES)).map(Number).collect(),
            head: vector.iter().map(|&x| Number(f64::from(x))).collect(),
            nonfinite: logits.iter().chain(vector).filter(|x| !x.is_finite()).count() as u64,
        }
    };
    let rows = (0..batch.samples.len()).map(row).collect();
    (rows, cache.map_or(0, |cache| cache.bytes()))
}

fn sketches<E: Engine>(
    parameters: &Parameters<Inner<E>>,
    weights: &[Tensor<E, 2>],
    gradients: &E::Gradients,
) -> Vec<ProbeGradient> {
    let of = |(parameter, weight): (&crate::model::Parameter<Inner<E>>, &Tensor<E, 2>)| {
        let gradient = weight.grad(gradients)?;
        Some(ProbeGradient {
            name: parameter.name.clone(),
            shape: parameter.shape.iter().map(|&extent| extent as u64).collect(),
            norm: Number(norm(&gradient)),
            sketch: sketch(&to_vec(gradient), SKETCHES).into_iter().map(Number).collect(),
        })
    };
    parameters.0.iter().zip(weights).filter(|(parameter, _)| parameter.trainable).filter_map(of).collect()
}
