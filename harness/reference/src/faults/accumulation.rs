//! Faults of the gradient-accumulation window: its content, its divisor, its end, its clipping.

use burn::tensor::backend::Backend;

use super::Fault;
use crate::data::Counts;
use crate::engine::Engine;
use crate::optimizer::{clip_global, norm};
use crate::window::{GradientSet, Place, Scales, Weights, Window, add, one_over};

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("mean-of-token-means", |parts| {
            parts.window.scales =
                |own, _, totals, _| each(own, |own| one_over((own * totals.micro_batches) as f64));
        }),
        ("sum-not-mean", |parts| {
            parts.window.scales = |own, _, _, _| each(own, |own| one_over(own as f64));
        }),
        ("partial-window-dropped", |parts| {
            parts.window.closes = only_when_full;
            parts.window.at_epoch_end = |window, _| *window = Window::empty();
        }),
        ("partial-window-mis-scaled", |parts| {
            parts.unchanged.window_totals = |counts, train| {
                let as_if_full = |count: u64| count * train.accumulation / counts.micro_batches;
                Counts { targets: as_if_full(counts.targets), samples: as_if_full(counts.samples), ..counts }
            };
        }),
        ("window-leaks-across-epochs", |parts| {
            parts.window.closes = only_when_full;
            parts.window.at_epoch_end = |_, _| {};
        }),
        ("zero-grad-missing", |parts| {
            parts.window.after_update = |window| window.counts = Counts::default();
        }),
        ("zero-grad-every-micro-batch", |parts| parts.window.accumulate = |sum, new, _| *sum = new),
        ("clip-per-micro-batch", |parts| {
            parts.update.clip = |_, _| {};
            parts.window.accumulate = |sum, mut new, train| {
                clip_global(&mut new, train.clip);
                add(sum, new, train);
            };
        }),
        ("clip-per-tensor", |parts| parts.update.clip = clip_each),
    ]
}

fn each(own: Weights, scale: impl Fn(u64) -> f64) -> Scales {
    Scales { lm: scale(own.lm), head: scale(own.head) }
}

fn only_when_full(place: &Place) -> bool {
    place.counts.micro_batches == place.grouping.accumulation
}

/// burn's own `GradientClipping::Norm` clips each tensor by itself (rlevo#328).
fn clip_each<B: Backend>(gradients: &mut GradientSet<B>, max: Option<f64>) {
    let Some(max) = max else { return };
    for gradient in gradients.iter_mut().flatten() {
        let norm = norm(gradient);
        if norm > max {
            *gradient = gradient.clone() * (max / norm);
        }
    }
}
