//! The rows of a batch and the figures of their losses, as the trace gets them: for the judge, who makes them again.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use traintrue_protocol::number::Number;
use traintrue_protocol::trace::event::Row;

use super::parameters::to_vec;
use crate::data::Batch;

/// The rows of the samples, with the figures of their losses where the logits `[rows * width, vocabulary]` are given.
pub fn rows<B: Backend>(batch: &Batch, logits: Option<&Tensor<B, 2>>) -> Vec<Row> {
    let width = batch.rows.width;
    let logits = logits.map(|it| (to_vec(it.clone()), it.dims()[1]));
    let of = |(row, &sample): (usize, &u64)| {
        let span = row * width..(row + 1) * width;
        let targets = batch.targets[span.clone()].to_vec();
        let figures = |(all, vocabulary): &(Vec<f32>, usize)| {
            let supervised = span.clone().zip(&targets).filter_map(|(at, target)| Some((at, (*target)?)));
            supervised
                .map(|(at, target)| {
                    let logits = &all[at * vocabulary..(at + 1) * vocabulary];
                    [f64::from(logits[target as usize]), log_sum(logits)].map(Number)
                })
                .collect()
        };
        Row {
            sample,
            ids: batch.rows.ids[span.clone()].to_vec(),
            real: batch.rows.real[span.clone()].to_vec(),
            logits: logits.as_ref().map(figures).unwrap_or_default(),
            targets,
        }
    };
    batch.samples.iter().enumerate().map(of).collect()
}

/// The logarithm of the sum of the exponentials.
fn log_sum(logits: &[f32]) -> f64 {
    let largest = f64::from(logits.iter().copied().fold(f32::NEG_INFINITY, f32::max));
    let sum: f64 = logits.iter().map(|&it| (f64::from(it) - largest).exp()).sum();
    largest + sum.ln()
}
