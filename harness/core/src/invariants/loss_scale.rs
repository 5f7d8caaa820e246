//! `loss/scaled-as-declared`: the gradient of an update has the size that the contract gives it.
//!
//! Two runs that regroup the same samples agree even where both are divided by nine; this is the check in absolute terms.

use super::{Kind, Opening, Rule, Watch};
use crate::bound;
use crate::contract::{Gradients, Normaliser};
use crate::finding::{Difference, Sheet};
use crate::plan::{Dtype, Probe as Asked};
use crate::trace::event::{MicroBatch, Probe, State};
use crate::trace::{Event, Line};

pub(super) static RULE: Rule = Rule {
    name: "loss/scaled-as-declared",
    says: "the first update's gradient is that of the mean loss over its samples",
    verifies: "A probe named `window:…` takes the gradient of the mean losses over the first window's samples in one \
               forward, outside the loop. The norm of each tensor's gradient at the first update is the same, within \
               the bound of the number format: a loss divided once too often, or not at all, shows by its factor.",
    does_not_verify: "Later updates, and contracts that sum or that average micro-batches. It trusts the probe: a \
                      trainer that scales the probe's loss as wrongly as its own is not seen.",
    kind: Kind::Trace(|opening| Box::new(LossScale::new(opening))),
};

struct LossScale {
    dtype: Dtype,
    asked: Vec<Asked>,
    rows_per_sample: u64,
    applies: bool,
    probe: Option<Probe>,
    samples: Vec<u64>,
    positions: u64,
    first_window: bool,
}

impl LossScale {
    fn new(opening: &Opening) -> Self {
        let contract = opening.contract;
        let mean = contract.gradients == Gradients::Mean && contract.normaliser == Normaliser::Tokens;
        Self {
            applies: mean && opening.plan.train.dropout == 0.0,
            dtype: opening.plan.train.dtype,
            asked: opening.plan.probes.clone(),
            rows_per_sample: contract.rows_per_sample,
            probe: None,
            samples: Vec::new(),
            positions: 0,
            first_window: true,
        }
    }

    fn micro_batch(&mut self, seen: &MicroBatch) {
        self.samples.extend(seen.samples.iter().flatten());
        self.positions += seen.rows.unwrap_or(0) * seen.width.unwrap_or(0);
    }

    fn state(&self, line: &Line, state: &State, sheet: &mut Sheet) {
        let Some(probe) = &self.probe else { return };
        if !self.is_of_the_window(probe) {
            return sheet.missing("probe of the first window's samples");
        }
        let own = self.rows_per_sample * self.samples.len() as u64 * probe.width.unwrap_or(0);
        let shapes = state.tensors.iter().map(|tensor| tensor.shape.as_slice());
        let terms = bound::gradient_terms(self.positions.max(own), shapes);
        let whole = probe.gradients.iter().map(|it| it.norm.0 * it.norm.0).sum::<f64>().sqrt();
        let allowed = bound::between(terms, self.dtype) * whole;
        for expected in &probe.gradients {
            let found = state.tensors.iter().find(|tensor| tensor.name == expected.name);
            let Some(actual) = found.and_then(|tensor| tensor.grad_norm) else {
                sheet.missing("grad_norm of a tensor");
                continue;
            };
            sheet.check((actual.0 - expected.norm.0).abs() <= allowed, line, || Difference {
                expected: format!("{} within {allowed:.1e} as the gradient norm of {}", expected.norm, expected.name),
                actual: actual.to_string(),
                component: "normaliser",
                cause: format!(
                    "the loss is scaled by {:.4} of what the contract says",
                    actual.0 / expected.norm.0
                ),
            });
        }
    }

    fn is_of_the_window(&self, probe: &Probe) -> bool {
        let asked = self.asked.iter().find(|asked| asked.name == probe.name);
        let sorted = |ids: &[u64]| {
            let mut ids = ids.to_vec();
            ids.sort_unstable();
            ids
        };
        asked.is_some_and(|asked| sorted(&asked.samples) == sorted(&self.samples))
    }
}

impl Watch for LossScale {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        if !self.applies {
            return;
        }
        match &line.event {
            Event::Probe(probe) if probe.name.starts_with("window:") && probe.at.as_deref() == Some("start") => {
                self.probe = Some((**probe).clone());
            }
            Event::MicroBatch(seen) if self.first_window && self.probe.is_some() => self.micro_batch(seen),
            Event::Update(_) => self.first_window = false,
            Event::State(state) if state.at == "update" && state.step == 1 => self.state(line, state, sheet),
            _ => {}
        }
    }
}
