//! Compares the updates of two runs of the same work.

use traintrue_protocol::contract::Normaliser;
use traintrue_protocol::number::Number;
use traintrue_protocol::plan::Dtype;
use traintrue_protocol::trace::event::{EndReason, State, TensorState};
use traintrue_protocol::trace::{Line, TraceError};
use traintrue_protocol::vocabulary::Component;

use super::coupled::coupled;
use crate::bound::{self, Drift};
use crate::finding::{Difference, Sheet};
use crate::invariants::shared::place::first_ids;
use crate::invariants::shared::spread::{self, Spread};
use crate::invariants::shared::steps::{Step, Steps};
use crate::invariants::shared::stream::Stream;
use crate::invariants::training::schedule::TOLERANCE;
use crate::near::near;
use crate::rule::RunEvidence;

/// How far apart the parameters may be by rounding, relative to their norm, for their gradients still to be compared:
/// up to there, the bound that grows with the updates covers what the distance makes of the gradients.
const APART_MOST: f64 = 0.01;

/// Compares the updates of two runs of the same work.
pub(in crate::invariants) struct Judge {
    dtype: Dtype,
    peak: f64,
    eps: f64,
    clips: bool,
    accumulation: u64,
    rows_per_sample: u64,
    /// Whether the gradients of the two runs can be compared: the contract allows it, and the bound is below 1.
    gradients: bool,
    pub(in crate::invariants) tensor_terms: u64,
    drift: Drift,
    /// The spread of the other run's repeats, if the trainer is not deterministic.
    spread: Option<Spread>,
}

/// What the losses of an update's micro-batches say, where those of the same samples and targets differ.
fn of_losses(step: &Step, other: &Step, relative: f64) -> Option<String> {
    let total = |step: &Step| {
        let lm = step.losses.iter().filter(|loss| loss.name == "lm");
        lm.fold((0.0, 0.0), |(sum, weight), loss| (sum + loss.sum.0, weight + loss.weight.0))
    };
    let ((sum, weight), (other, other_weight)) = (total(step), total(other));
    let differs = (sum - other).abs() > bound::of_losses(relative, sum, other, weight);
    (weight == other_weight && differs).then(|| {
        format!(
            "the loss of the same samples differs as well, {} in place of {}: what a sample gives depends on what it is batched \
             with, before any gradient",
            Number(sum),
            Number(other)
        )
    })
}

/// How far two correct values of one update may differ.
pub(in crate::invariants) struct Bounds {
    /// Of the gradient, relative to its norm.
    pub(in crate::invariants) relative: f64,
    /// Of the gradient, by the norm of the larger one.
    pub(in crate::invariants) gradient: f64,
}

impl Judge {
    /// A judge of two runs, with the updates of both; none where they cannot be compared.
    pub(in crate::invariants) fn of<'a>(
        run: &'a RunEvidence,
        against: &'a RunEvidence,
        sheet: &mut Sheet,
    ) -> Result<Option<(Self, Steps<'a>, Steps<'a>)>, TraceError> {
        let opened = (Steps::of(Stream::of(&run.segments))?, Steps::of(Stream::of(&against.segments))?);
        let (Some(steps), Some(others)) = opened else { return Ok(None) };
        let Some(judge) = Self::new((run, &steps), (against, &others), sheet)? else { return Ok(None) };
        Ok(Some((judge, steps, others)))
    }

    /// The same, of runs that are opened.
    pub(in crate::invariants) fn new(
        (evidence, run): (&RunEvidence, &Steps),
        (other, against): (&RunEvidence, &Steps),
        sheet: &mut Sheet,
    ) -> Result<Option<Self>, TraceError> {
        let Some(spread) = spread::bound(other, sheet)? else { return Ok(None) };
        let shape = |steps: &Steps| (steps.plan.data.batch, steps.counts().accumulation);
        let regrouped = shape(run) != shape(against);
        let reason = match (regrouped, run.contract.normaliser) {
            (false, _) => None,
            (true, Normaliser::Tokens) => coupled(evidence)?.or(coupled(other)?),
            // Means of micro-batches average to the mean of the batch only if the groups are the same.
            (true, _) => Some("the contract averages the means of micro-batches"),
        };
        if let Some(reason) = reason {
            sheet.cannot(&format!("{reason}: regrouped windows have other gradients by design"));
        }
        let train = &run.plan.train;
        Ok(Some(Self {
            dtype: train.dtype,
            peak: train.optimizer.lr.abs(),
            eps: train.optimizer.eps,
            clips: train.clip.is_some(),
            accumulation: train.accumulation.max(1),
            rows_per_sample: run.contract.rows_per_sample,
            gradients: reason.is_none(),
            tensor_terms: 0,
            drift: Drift::default(),
            spread,
        }))
    }

    /// What a non-deterministic trainer's own noise adds to a relative bound.
    fn noise(&self, field: &str, updates: u64) -> f64 {
        self.spread.as_ref().map_or(0.0, |spread| spread.allows(field, updates))
    }

    /// One run has more updates than the other. That is an error only if the shorter one finished: a cut run may be
    /// shorter.
    pub(super) fn count(&self, line: &Line, shorter: &Steps, sheet: &mut Sheet) {
        let done = matches!(&shorter.ended, Some((_, EndReason::Done)));
        sheet.check(!done, line, || Difference {
            expected: "as many updates in both runs".into(),
            actual: "one run has more".into(),
            component: Component::Boundary,
            cause: "the same samples make a different number of updates: check where the accumulation window closes".into(),
        });
    }

    pub(in crate::invariants) fn step(&mut self, step: &Step, other: &Step, sheet: &mut Sheet) {
        self.window(step, other, sheet);
        let Some((norm, other_norm, bounds)) = self.bounds(step, other, sheet) else { return };
        self.norm(norm, other_norm, &bounds, step, other, sheet);
        self.drifts(step, norm, &bounds);
        if let (Some((line, state)), Some((_, other))) = (&step.state, &other.state) {
            self.state(line, state, other, &bounds, sheet);
            self.part(state, sheet);
        }
    }

    /// The gradient norms of an update of both runs, with how far they may differ; none where they are not compared.
    pub(in crate::invariants) fn bounds(
        &mut self,
        step: &Step,
        other: &Step,
        sheet: &mut Sheet,
    ) -> Option<(Number, Number, Bounds)> {
        if !self.gradients {
            return None;
        }
        let (Some(norm), Some(other_norm)) = (step.update.grad_norm, other.update.grad_norm) else {
            sheet.missing("grad_norm");
            return None;
        };
        let terms = step.positions.max(other.positions).saturating_add(self.tensor_terms);
        // Every update can add as much difference as the first, so the bound grows linearly.
        let growth = step.update.step.max(1) as f64;
        let noise = self.noise("grad_norm", step.update.step);
        let gradient = match bound::grown(terms, self.dtype, growth) {
            Ok(bound) => bound + noise,
            // Bounds only grow with the updates, so no later gradient can be compared either.
            Err(unbounded) => {
                self.gradients = false;
                sheet.cannot(&format!("from update {} on: {unbounded}", step.update.step));
                return None;
            }
        };
        let finite = [norm, other_norm].into_iter().filter(|norm| norm.is_finite());
        let largest = finite.map(|norm| norm.0).fold(0.0, f64::max);
        Some((norm, other_norm, Bounds { relative: gradient, gradient: gradient * largest }))
    }

    /// Adds what the error of an update's gradient makes of its parameters.
    pub(in crate::invariants) fn drifts(&mut self, step: &Step, norm: Number, bounds: &Bounds) {
        // The optimizer sees the clipped gradient, so its error is scaled down with it.
        let given = step.update.clipped_norm.unwrap_or(norm);
        let lr = step.update.lr.iter().map(|lr| lr.0).fold(0.0, f64::max);
        self.drift.update(lr, self.eps, bounds.relative * given.0);
    }

    fn window(&self, step: &Step, other: &Step, sheet: &mut Sheet) {
        let (line, update) = (&step.line, &step.update);
        match (&step.samples, &other.samples) {
            (Some(ids), Some(others)) => {
                sheet.check(ids == others, line, || Difference {
                    expected: format!(
                        "{} samples in update {}: {}",
                        others.len(),
                        update.step,
                        first_ids(others)
                    ),
                    actual: format!("{}: {}", ids.len(), first_ids(ids)),
                    component: if ids.len() == others.len() { Component::Order } else { Component::Boundary },
                    cause: "the window holds other samples than the same update of the other run: check the data order \
                            and the window boundary".into(),
                });
            }
            _ => sheet.missing("samples"),
        }
        match (update.targets, other.update.targets) {
            (Some(found), Some(expected)) => {
                sheet.check(found == expected, line, || Difference {
                    expected: format!("{expected} targets in update {}", update.step),
                    actual: found.to_string(),
                    component: Component::Boundary,
                    cause: "the number of targets changes when the same samples are grouped differently"
                        .into(),
                });
            }
            _ => sheet.missing("targets"),
        }
        for (lr, other) in update.lr.iter().zip(&other.update.lr) {
            sheet.check(near(*lr, *other, TOLERANCE * self.peak), line, || Difference {
                expected: format!("lr {other} at update {}", update.step),
                actual: lr.to_string(),
                component: Component::Schedule,
                cause: "the learning rate depends on how the samples are grouped: check that scheduler.step() runs once per \
                        update, and what the schedule's length is computed from"
                    .into(),
            });
        }
    }

    fn norm(
        &self,
        found: Number,
        expected: Number,
        bounds: &Bounds,
        step: &Step,
        other: &Step,
        sheet: &mut Sheet,
    ) {
        let finite = found.is_finite() && expected.is_finite();
        sheet.check(near(found, expected, bounds.gradient), &step.line, || Difference {
            expected: format!("grad_norm {expected} within {}", Number(bounds.gradient)),
            actual: found.to_string(),
            component: if finite { Component::Normaliser } else { Component::Numerics },
            cause: if finite {
                of_losses(step, other, bounds.relative)
                    .unwrap_or_else(|| self.ratio(found.0 / expected.0, step, other))
            } else {
                "the gradient is finite in one grouping and not in the other".into()
            },
        });
    }

    /// The mistake that scales a gradient by this much.
    fn ratio(&self, ratio: f64, step: &Step, other: &Step) -> String {
        // 2 % tells apart all ratios of small whole numbers, and allows for ragged windows.
        let near = |factor: f64| factor != 1.0 && (ratio / factor - 1.0).abs() < 0.02;
        let windows = step.micro_batches as f64 / other.micro_batches as f64;
        let rows = self.rows_per_sample as f64;
        let times = format!("the gradient norm is {} times the other run's", Number(ratio));
        let (held, full) = (step.micro_batches, self.accumulation);
        if held < full && near(held as f64 / full as f64) {
            format!(
                "{times}: that is the factor if a window of {held} micro-batches is divided as a full one of {full} is"
            )
        } else if near(windows) {
            format!("{times}: that is the factor if the window's micro-batches are summed, not averaged")
        } else if near(1.0 / windows) {
            format!(
                "{times}: that is the factor if the loss is divided by the number of micro-batches once too often"
            )
        } else if near(rows) || near(1.0 / rows) {
            format!("{times}: that is the factor if the {rows} rows per sample are counted twice, or never")
        } else {
            format!(
                "{times}: micro-batches may have equal weights regardless of their tokens, or be clipped one by one; or \
                 gradients of another window are in the buffers"
            )
        }
    }

    fn state(&self, line: &Line, state: &State, other: &State, bounds: &Bounds, sheet: &mut Sheet) {
        for tensor in state.tensors.iter().filter(|tensor| tensor.trainable) {
            if let Some(other) = other.tensors.iter().find(|other| other.name == tensor.name) {
                self.gradient(line, tensor, other, bounds, sheet);
                self.sketch(line, tensor, other, sheet);
            }
        }
    }

    fn gradient(
        &self,
        line: &Line,
        tensor: &TensorState,
        other: &TensorState,
        bounds: &Bounds,
        sheet: &mut Sheet,
    ) {
        let (Some(found), Some(expected)) = (tensor.grad_norm, other.grad_norm) else {
            return;
        };
        sheet.check(near(found, expected, bounds.gradient), line, || Difference {
            expected: format!(
                "gradient norm {expected} of {} within {}",
                tensor.name,
                Number(bounds.gradient)
            ),
            actual: found.to_string(),
            component: Component::Normaliser,
            cause: "the global norms agree but this tensor's does not: the losses of this update have other weights \
                    against each other".into(),
        });
    }

    fn sketch(&self, line: &Line, tensor: &TensorState, other: &TensorState, sheet: &mut Sheet) {
        let bound = self.of_sketch(tensor, other);
        for (found, expected) in tensor.sketch.iter().zip(&other.sketch) {
            sheet.check(near(*found, *expected, bound), line, || Difference {
                expected: format!("sketch {expected} of {} within {}", tensor.name, Number(bound)),
                actual: found.to_string(),
                component: if self.clips { Component::Clipper } else { Component::OptimizerGroups },
                cause: "the gradients agree but the parameters do not: check gradient clipping and the optimizer step"
                    .into(),
            });
        }
    }

    /// Ends the comparison of gradients and parameters if rounding alone may have moved the two runs far apart.
    pub(in crate::invariants) fn part(&mut self, state: &State, sheet: &mut Sheet) {
        if self.apart(state) > APART_MOST {
            self.gradients = false;
            sheet.cannot(&format!(
                "after update {} rounding may have moved the parameters apart by more than 1 %: gradients are not \
                 compared from there on, and a smaller rate or a larger eps would show more of them",
                state.step
            ));
        }
    }

    /// How far the trained parameters of two correct runs may be apart by now, relative to their norm.
    fn apart(&self, state: &State) -> f64 {
        let trained = || state.tensors.iter().filter(|tensor| tensor.trainable);
        let numel = trained().map(TensorState::elements).fold(0, u64::saturating_add);
        // The mean square of a tensor's sketches estimates the square of its norm.
        let square = |tensor: &TensorState| {
            let squares = tensor.sketch.iter().map(|sketch| sketch.0 * sketch.0);
            squares.sum::<f64>() / (tensor.sketch.len().max(1) as f64)
        };
        self.drift.of_parameters(numel) / trained().map(square).sum::<f64>().sqrt()
    }

    /// How far the sketches of a parameter may differ by now.
    pub(in crate::invariants) fn of_sketch(&self, tensor: &TensorState, other: &TensorState) -> f64 {
        let numel = tensor.elements().max(1);
        let largest =
            tensor.sketch.iter().chain(&other.sketch).map(|value| value.0.abs()).fold(0.0, f64::max);
        // A sketch grows with the root of the number of values, so this estimates the size of one value. At least 1,
        // the size of a norm's scale.
        let scale = (largest / (numel as f64).sqrt()).max(1.0);
        let noise = largest * self.noise("sketch", self.drift.updates());
        self.drift.of_sketch(numel, scale, self.dtype) + noise
    }
}
