//! Clipping by the global norm and AdamW with decay groups (arXiv 1711.05101, PyTorch's form and defaults).
//!
//! Moments are kept by the parameter's index and saved under its name. Moments under a random id are lost at a reload.

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use traintrue_protocol::digest;
use traintrue_protocol::plan::{Optimizer, Train};

use crate::model::{Parameter, Parameters};
use crate::window::GradientSet;

/// The two moments of one parameter and the number of its updates.
#[derive(Clone, Debug)]
pub struct Moments<B: Backend> {
    /// Decayed mean of the gradient.
    pub first: Tensor<B, 2>,
    /// Decayed mean of its square.
    pub second: Tensor<B, 2>,
    /// Updates of this parameter: the exponent of the bias correction.
    pub updates: u64,
}

/// The parts of an update.
pub struct UpdateParts<B: Backend> {
    /// Clips gradients to a maximal norm, where there is one.
    pub clip: fn(&mut GradientSet<B>, Option<f64>),
    /// Whether the optimizer gets a parameter.
    pub optimizes: fn(&Parameter<B>) -> bool,
    /// The weight decay of a parameter.
    pub decay: Decay<B>,
    /// Moves the parameters.
    pub step: Step<B>,
}

/// The weight decay of a parameter.
pub type Decay<B> = fn(&Parameter<B>, &Train) -> f64;

/// One optimizer step at a rate.
pub type Step<B> = fn(&mut AdamW<B>, &mut Parameters<B>, &GradientSet<B>, &Train, Decay<B>, f64);

impl<B: Backend> Default for UpdateParts<B> {
    fn default() -> Self {
        Self {
            clip: clip_global,
            optimizes: |parameter| parameter.trainable,
            decay: decay_matrices,
            step: AdamW::step,
        }
    }
}

/// Only matrices decay. Biases and norm scales are vectors.
pub fn decay_matrices<B: Backend>(parameter: &Parameter<B>, train: &Train) -> f64 {
    if parameter.shape.len() > 1 { train.optimizer.decay } else { 0.0 }
}

/// Added to the norm in the divisor, as in PyTorch.
const CLIP_EPS: f64 = 1e-6;

/// Scales all gradients by `max / (norm + 1e-6)`, where that makes them smaller (PyTorch's `clip_grad_norm_`).
pub fn clip_global<B: Backend>(gradients: &mut GradientSet<B>, max: Option<f64>) {
    let Some(max) = max else { return };
    let share = max / (global_norm(gradients) + CLIP_EPS);
    if share < 1.0 {
        for gradient in gradients.iter_mut().flatten() {
            *gradient = gradient.clone() * share;
        }
    }
}

/// The L2 norm of one gradient.
pub fn norm<B: Backend>(gradient: &Tensor<B, 2>) -> f64 {
    square_sum(gradient).sqrt()
}

/// The L2 norm over all gradients together.
pub fn global_norm<B: Backend>(gradients: &GradientSet<B>) -> f64 {
    gradients.iter().flatten().map(square_sum).sum::<f64>().sqrt()
}

/// On the host: a device may sum in any order, and the norm would depend on it.
fn square_sum<B: Backend>(gradient: &Tensor<B, 2>) -> f64 {
    digest::square_sum(&crate::model::to_vec(gradient.clone()))
}

/// The optimizer: the moments of the parameters that it was given.
#[derive(Clone, Debug)]
pub struct AdamW<B: Backend> {
    /// One per parameter, in the order of the parameters; none for a parameter that the optimizer does not have.
    pub moments: Vec<Option<Moments<B>>>,
}

impl<B: Backend> AdamW<B> {
    /// An optimizer over the parameters that `optimizes` picks.
    pub fn over(parameters: &Parameters<B>, optimizes: fn(&Parameter<B>) -> bool) -> Self {
        let fresh = |parameter: &Parameter<B>| Moments {
            first: parameter.value.zeros_like(),
            second: parameter.value.zeros_like(),
            updates: 0,
        };
        Self { moments: parameters.0.iter().map(|it| optimizes(it).then(|| fresh(it))).collect() }
    }

    /// One optimizer step. Every parameter that the optimizer has decays; those with a gradient move.
    pub fn step(
        &mut self,
        parameters: &mut Parameters<B>,
        gradients: &GradientSet<B>,
        train: &Train,
        decay: Decay<B>,
        lr: f64,
    ) {
        for ((parameter, moments), gradient) in parameters.0.iter_mut().zip(&mut self.moments).zip(gradients)
        {
            let Some(moments) = moments else { continue };
            let decay = lr * decay(parameter, train);
            if decay != 0.0 {
                parameter.value = parameter.value.clone() * (1.0 - decay);
            }
            if let Some(gradient) = gradient {
                parameter.value = parameter.value.clone() - moments.step(gradient, &train.optimizer) * lr;
            }
        }
    }
}

impl<B: Backend> Moments<B> {
    /// Adds a gradient to the moments, and returns the direction of the step.
    pub fn step(&mut self, gradient: &Tensor<B, 2>, settings: &Optimizer) -> Tensor<B, 2> {
        let [beta1, beta2] = settings.betas;
        self.updates += 1;
        self.first = self.first.clone() * beta1 + gradient.clone() * (1.0 - beta1);
        self.second = self.second.clone() * beta2 + gradient.clone() * gradient.clone() * (1.0 - beta2);
        let correction = |beta: f64| 1.0 - beta.powf(self.updates as f64);
        let root = self.second.clone().sqrt() / correction(beta2).sqrt() + settings.eps;
        self.first.clone() / correction(beta1) / root
    }
}
