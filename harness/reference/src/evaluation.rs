//! Evaluation: the loss over the evaluation samples. It must not change the training state.

use burn::tensor::Tensor;
use traintrue_protocol::plan::Plan;

use crate::data::{Batch, CollateParts, collate};
use crate::engine::Engine;
use crate::model::{Dropout, Pass, losses, scalar};

/// The parts of an evaluation.
#[derive(Clone, Copy)]
pub struct EvaluationParts {
    /// Switches to evaluation mode.
    pub begin: fn(&mut Dropout),
    /// Switches back to training mode.
    pub end: fn(&mut Dropout),
    /// The reported metric, from the summed loss and the weight of each batch.
    pub metric: fn(&[(f64, u64)]) -> f64,
}

impl Default for EvaluationParts {
    fn default() -> Self {
        Self {
            begin: |dropout| dropout.active = false,
            end: |dropout| dropout.active = true,
            metric: mean_over_targets,
        }
    }
}

fn mean_over_targets(batches: &[(f64, u64)]) -> f64 {
    let sum: f64 = batches.iter().map(|(sum, _)| sum).sum();
    let weight: u64 = batches.iter().map(|(_, weight)| weight).sum();
    sum / weight as f64
}

/// The evaluation samples in batches.
pub fn batches(parts: &CollateParts, plan: &Plan) -> Vec<Batch> {
    let ids: Vec<u64> = (0..plan.data.evaluation.len() as u64).collect();
    let of = |samples| collate(parts, &plan.data, &plan.data.evaluation, &plan.data.padding, samples, false);
    ids.chunks(plan.data.batch as usize).map(of).collect()
}

/// The summed loss and the number of targets of each batch.
pub fn evaluate<E: Engine>(pass: &mut Pass<E>, batches: &[Batch]) -> Vec<(f64, u64)> {
    let mut of = |batch: &Batch| {
        let figures = (scalar(&losses(pass, batch, 1, false).lm), batch.counts.targets);
        forget::<E>(pass.device);
        figures
    };
    batches.iter().map(&mut of).collect()
}

/// Frees burn's records of the operations since the last backward pass. burn 0.21 keeps one record per operation until the
/// next backward pass, with gradients or without: a long evaluation would fill the memory.
fn forget<E: Engine>(device: &E::Device) {
    Tensor::<E, 1>::zeros([1], device).require_grad().backward();
}
