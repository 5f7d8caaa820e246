//! Faults of the loss: it is not the cross-entropy of the model's logits, or a part of the model never sees it.

use burn::tensor::{Tensor, activation};

use super::Fault;
use crate::engine::Engine;
use crate::model::{lm_by_row, unit};
use crate::window::add;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("loss-in-bits", |parts| {
            parts.forward.loss =
                |logits, targets, width| lm_by_row(logits, targets, width) / std::f64::consts::LN_2;
        }),
        ("loss-with-a-temperature", |parts| {
            parts.forward.loss = |logits, targets, width| lm_by_row(logits / 0.7, targets, width);
        }),
        ("loss-of-probabilities", |parts| {
            parts.forward.loss =
                |logits, targets, width| lm_by_row(activation::softmax(logits, 1), targets, width);
        }),
        ("loss-without-a-rows-first-target", |parts| {
            parts.forward.loss = |logits, targets, width| {
                let mut targets = targets.to_vec();
                targets
                    .chunks_mut(width)
                    .filter_map(|row| row.iter_mut().find(|it| it.is_some()))
                    .for_each(|it| *it = None);
                lm_by_row(logits, &targets, width)
            };
        }),
        ("head-detached", |parts| {
            parts.forward.unit = |x, precision| unit(x, precision).detach();
        }),
        ("half-of-each-adapter-detached", |parts| {
            parts.window.accumulate = |sum, mut new, train| {
                let rank = train.adapters.as_ref().map_or(0, |it| it.r as usize);
                for gradient in &mut new {
                    let is_a = |it: &Tensor<_, 2>| it.dims()[1] == rank && it.dims()[0] != 1;
                    gradient.take_if(|it| is_a(it));
                }
                add(sum, new, train);
            };
        }),
    ]
}
