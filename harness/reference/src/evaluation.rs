//! Evaluation: the loss over the evaluation samples. It must not change the training state.

use burn::tensor::Tensor;
use traintrue_protocol::plan::Plan;

use crate::data::{Batch, CollateParts, collate};
use crate::engine::Engine;
use crate::model::{Dropout, Pass, losses, scalar};

/// The parts of an evaluation.
#[derive(Clone, Copy)]
pub struct EvaluationParts {
    /// Whether an evaluation comes after update `step`, with one after every so many.
    pub is_due: fn(step: u64, every: u64) -> bool,
    /// The evaluation samples in batches.
    pub batches: fn(&CollateParts, &Plan) -> Vec<Batch>,
    /// Switches to evaluation mode.
    pub begin: fn(&mut Dropout),
    /// Switches back to training mode.
    pub end: fn(&mut Dropout),
    /// The reported metric, from the summed loss and the weight of each batch.
    pub metric: fn(&[(f64, u64)]) -> f64,
    /// The best metric so far, from the best before it and the newest: the lowest, because it is a loss.
    pub best: fn(before: Option<f64>, newest: f64) -> f64,
}

impl Default for EvaluationParts {
    fn default() -> Self {
        Self {
            is_due: |step, every| step.is_multiple_of(every),
            batches,
            begin: |dropout| dropout.active = false,
            end: |dropout| dropout.active = true,
            metric: mean_over_targets,
            best: |before, newest| before.map_or(newest, |before| before.min(newest)),
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
    in_batches(parts, plan, &plan.data.evaluation)
}

/// The first of these samples, as many as there are to evaluate, in batches.
pub fn in_batches(parts: &CollateParts, plan: &Plan, from: &[Vec<u32>]) -> Vec<Batch> {
    let ids: Vec<u64> = (0..plan.data.evaluation.len().min(from.len()) as u64).collect();
    let of = |samples| collate(parts, &plan.data, from, &plan.data.padding, samples, false);
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
