//! Evaluation: the loss over the evaluation samples, and nothing else changed by it.

use traintrue::plan::{Padding, Plan};

use crate::data::{CollateParts, collate};
use crate::engine::Engine;
use crate::model::{Dropout, Pass, losses, scalar};

/// The parts of an evaluation.
#[derive(Clone, Copy)]
pub struct EvaluationParts {
    /// Before it.
    pub begin: fn(&mut Dropout),
    /// After it.
    pub end: fn(&mut Dropout),
    /// The reported figure from each batch's summed loss and weight.
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

/// The summed loss and the targets of each batch of evaluation samples.
pub fn evaluate<E: Engine>(pass: &mut Pass<E>, parts: &CollateParts, plan: &Plan) -> Vec<(f64, u64)> {
    let padding: &Padding = &plan.data.padding;
    let ids: Vec<u64> = (0..plan.data.evaluation.len() as u64).collect();
    let batches = ids.chunks(plan.data.batch as usize);
    batches
        .map(|samples| {
            let batch = collate(parts, &plan.data, &plan.data.evaluation, padding, samples, false);
            (scalar(&losses(pass, &batch, 1, false).lm), batch.counts.targets)
        })
        .collect()
}
