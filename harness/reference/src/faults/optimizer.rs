//! Faults of the optimizer's arithmetic: its decay, its rate, its moments and their formats.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use traintrue_protocol::plan::{Optimizer, Train};

use super::Fault;
use crate::engine::Engine;
use crate::model::{Parameter, Parameters, from_vec, to_vec};
use crate::optimizer::{AdamW, Decay, Moments, decay_matrices};
use crate::window::GradientSet;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("decay-twice", |parts| parts.update.decay = |it, train| 2.0 * decay_matrices(it, train)),
        ("decay-of-vectors", |parts| parts.update.decay = |_, train| train.optimizer.decay),
        ("decay-left-out", |parts| parts.update.decay = |_, _| 0.0),
        ("decay-with-the-wrong-sign", |parts| parts.update.decay = |it, train| -decay_matrices(it, train)),
        ("decay-not-times-the-rate", |parts| {
            parts.update.step = |optimizer, parameters, gradients, train, _, lr| {
                decayed_by(parameters, train, 1.0);
                optimizer.step(parameters, gradients, train, |_, _| 0.0, lr);
            };
        }),
        ("decay-at-the-peak-rate", |parts| {
            parts.update.step = |optimizer, parameters, gradients, train, _, lr| {
                decayed_by(parameters, train, train.optimizer.lr);
                optimizer.step(parameters, gradients, train, |_, _| 0.0, lr);
            };
        }),
        ("decay-in-the-gradient", |parts| {
            parts.update.step = |optimizer, parameters, gradients, train, _, lr| {
                let with_decay = |(it, gradient): (&Parameter<_>, &Option<_>)| {
                    let gradient: &Tensor<_, 2> = gradient.as_ref()?;
                    Some(gradient.clone() + it.value.clone() * decay_matrices(it, train))
                };
                let gradients: Vec<_> = parameters.0.iter().zip(gradients).map(with_decay).collect();
                optimizer.step(parameters, &gradients, train, |_, _| 0.0, lr);
            };
        }),
        ("half-the-rate", |parts| {
            parts.update.step = |optimizer, parameters, gradients, train, decay, lr| {
                optimizer.step(parameters, gradients, train, decay, 0.5 * lr);
            };
        }),
        ("vectors-at-the-peak-rate", |parts| {
            parts.update.step = |optimizer, parameters, gradients, train, decay, lr| {
                let mut unscheduled = parameters.clone();
                optimizer.clone().step(&mut unscheduled, gradients, train, decay, train.optimizer.lr);
                optimizer.step(parameters, gradients, train, decay, lr);
                let vectors = parameters.0.iter_mut().zip(unscheduled.0).filter(|(it, _)| it.shape.len() < 2);
                vectors.for_each(|(it, unscheduled)| it.value = unscheduled.value);
            };
        }),
        ("betas-swapped", |parts| {
            parts.update.step = |optimizer, parameters, gradients, train, decay, lr| {
                let mut train = train.clone();
                train.optimizer.betas.swap(0, 1);
                optimizer.step(parameters, gradients, &train, decay, lr);
            };
        }),
        ("moments-not-corrected", |parts| {
            parts.update.step = |optimizer, parameters, gradients, train, decay, lr| {
                let direction = |it: &Moments<_>, _: &_, settings: &Optimizer| {
                    it.first.clone() / (it.second.clone().sqrt() + settings.eps)
                };
                formed(optimizer, parameters, gradients, train, (decay, lr), direction);
            };
        }),
        ("eps-inside-of-the-root", |parts| {
            parts.update.step = |optimizer, parameters, gradients, train, decay, lr| {
                let direction = |it: &Moments<_>, _: &_, settings: &Optimizer| {
                    let by = |beta: f64| 1.0 - beta.powf(it.updates as f64);
                    let [beta1, beta2] = settings.betas;
                    it.first.clone() / by(beta1) / (it.second.clone() / by(beta2) + settings.eps).sqrt()
                };
                formed(optimizer, parameters, gradients, train, (decay, lr), direction);
            };
        }),
        ("plain-sgd", |parts| {
            parts.update.step = |optimizer, parameters, gradients, train, decay, lr| {
                let direction = |_: &Moments<_>, gradient: &Tensor<_, 2>, _: &Optimizer| gradient.clone();
                formed(optimizer, parameters, gradients, train, (decay, lr), direction);
            };
        }),
        ("second-moment-in-bf16", |parts| {
            parts.update.step = |optimizer, parameters, gradients, train, decay, lr| {
                optimizer.step(parameters, gradients, train, decay, lr);
                optimizer.moments.iter_mut().flatten().for_each(|it| it.second = cut_to_bf16(&it.second));
            };
        }),
        ("values-in-bf16", |parts| {
            parts.update.step = |optimizer, parameters, gradients, train, decay, lr| {
                optimizer.step(parameters, gradients, train, decay, lr);
                let trained = parameters.0.iter_mut().filter(|it| it.trainable);
                trained.for_each(|it| it.value = cut_to_bf16(&it.value));
            };
        }),
    ]
}

fn decayed_by<B: Backend>(parameters: &mut Parameters<B>, train: &Train, rate: f64) {
    for it in parameters.0.iter_mut().filter(|it| it.trainable) {
        it.value = it.value.clone() * (1.0 - rate * decay_matrices(it, train));
    }
}

/// A step in another direction, from moments that are right.
fn formed<B: Backend>(
    optimizer: &mut AdamW<B>,
    parameters: &mut Parameters<B>,
    gradients: &GradientSet<B>,
    train: &Train,
    (decay, lr): (Decay<B>, f64),
    direction: impl Fn(&Moments<B>, &Tensor<B, 2>, &Optimizer) -> Tensor<B, 2>,
) {
    for ((parameter, moments), gradient) in parameters.0.iter_mut().zip(&mut optimizer.moments).zip(gradients)
    {
        let (Some(moments), Some(gradient)) = (moments, gradient) else { continue };
        moments.step(gradient, &train.optimizer);
        let kept = parameter.value.clone() * (1.0 - lr * decay(parameter, train));
        parameter.value = kept - direction(moments, gradient, &train.optimizer) * lr;
    }
}

fn cut_to_bf16<B: Backend>(tensor: &Tensor<B, 2>) -> Tensor<B, 2> {
    let cut = |it: f32| f32::from_bits(it.to_bits() & 0xFFFF_0000);
    let values = to_vec(tensor.clone()).into_iter().map(cut).collect();
    from_vec(values, tensor.dims(), &tensor.device())
}
