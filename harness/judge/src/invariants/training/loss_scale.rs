//! `loss/scaled-as-declared`: the gradient of an update has the size that the contract gives it.
//!
//! Two runs that regroup the same samples agree even if both divide their losses by nine, or if neither clears its
//! gradients. This rule checks the absolute size.

use traintrue_protocol::contract::{Gradients, Normaliser};
use traintrue_protocol::number::Number;
use traintrue_protocol::plan::{Dtype, Probe as Asked};
use traintrue_protocol::trace::event::{MicroBatch, Probe, ProbeGradient, State, Update};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::{Component, Moment};

use crate::bound;
use crate::finding::{Difference, Sheet};
use crate::near::near;
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

pub(crate) static RULE: Rule = Rule {
    name: "loss/scaled-as-declared",
    says: "an update's gradient is the gradient of the mean loss over its samples, and nothing is added to it",
    verifies: "A probe named `window:…` takes the gradient of the mean loss over one window's samples in a single \
               forward pass, outside the training loop. At the update of exactly these samples, each tensor's gradient \
               has the same norm, within the bound of the number format. A loss that is divided once too often differs \
               by that factor. Gradients left over from an earlier window add to the norm.",
    does_not_verify: "Updates after the parameters have changed: the rule judges the first update, and later ones for \
                      as long as the learning rate was 0. Contracts that sum micro-batches or average their means. A \
                      trainer that scales the probe's loss as wrongly as its own: the rule trusts the probe.",
    kind: Kind::Trace(|opening| Box::new(LossScale::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Loss,
    needs: &[Fact::Plan],
};

struct LossScale {
    dtype: Dtype,
    asked: Vec<Asked>,
    rows_per_sample: u64,
    applies: bool,
    probes: Vec<Probe>,
    samples: Vec<u64>,
    positions: u64,
    /// The sum of the language-model losses of the window, and of their weights.
    loss: (f64, f64),
    /// The update that closed the window in `samples`.
    updated: Option<u64>,
    /// Whether an update before that one changed the parameters, and whether that one did. The probe saw the initial
    /// parameters, so it says nothing about later ones.
    moved: (bool, bool),
}

impl LossScale {
    fn new(opening: &Opening) -> Self {
        let contract = opening.contract;
        // Only under this contract is the gradient that of one mean loss. Dropout would give the probe another mask
        // than training.
        let mean = contract.gradients == Gradients::Mean && contract.normaliser == Normaliser::Tokens;
        Self {
            applies: mean && opening.plan.train.dropout == 0.0,
            dtype: opening.plan.train.dtype,
            asked: opening.plan.probes.clone(),
            rows_per_sample: contract.rows_per_sample,
            probes: Vec::new(),
            samples: Vec::new(),
            positions: 0,
            loss: (0.0, 0.0),
            updated: None,
            moved: (false, false),
        }
    }

    fn micro_batch(&mut self, seen: &MicroBatch) {
        if self.updated.take().is_some() {
            self.samples.clear();
            (self.positions, self.loss) = (0, (0.0, 0.0));
        }
        for loss in seen.losses.iter().filter(|loss| loss.name == "lm") {
            self.loss = (self.loss.0 + loss.sum.0, self.loss.1 + loss.weight.0);
        }
        self.samples.extend(seen.samples.iter().flatten());
        self.positions = self.positions.saturating_add(seen.positions());
    }

    /// The state after an update has the norms of its gradients.
    fn state(&self, line: &Line, state: &State, sheet: &mut Sheet) {
        let Some(probe) = self.probes.iter().find(|probe| self.is_of_the_window(probe)) else {
            return;
        };
        let rows = self.rows_per_sample.saturating_mul(self.samples.len() as u64);
        // The probe pads all samples to one width, so it may sum more positions than the window.
        let own = rows.saturating_mul(probe.width.unwrap_or(0));
        let shapes = state.tensors.iter().map(|tensor| tensor.shape.as_slice());
        let terms = bound::gradient_terms(self.positions.max(own), shapes);
        let finite = probe.gradients.iter().filter(|it| it.norm.is_finite());
        let whole = finite.map(|it| it.norm.0 * it.norm.0).sum::<f64>().sqrt();
        let Some(bound) = sheet.comparable(bound::between(terms, self.dtype)) else { return };
        if self.is_another_loss(probe, bound) {
            return sheet.cannot(
                "a forward outside training gives another loss of the same samples, so its gradient says nothing of training's: \
                 a layer takes statistics of its batch, or the model draws random numbers",
            );
        }
        let allowed = bound * whole;
        let norm_of =
            |name: &str| state.tensors.iter().find(|it| it.name == name).and_then(|it| it.grad_norm);
        let (mut right, mut wrong) = (0, Vec::new());
        for expected in &probe.gradients {
            match norm_of(&expected.name) {
                None => sheet.missing("grad_norm of a tensor"),
                Some(actual) if near(actual, expected.norm, allowed) => right += 1,
                Some(actual) => wrong.push((expected, actual)),
            }
        }
        sheet.compared += right;
        let Some(&(first, actual)) = wrong.first() else { return };
        sheet.check(false, line, || Difference {
            expected: format!("gradient norm {} within {allowed:.1e} of {}", first.norm, first.name),
            actual: actual.to_string(),
            // Before the first update no earlier window exists, so only the scale can be wrong.
            component: if state.step == 1 { Component::Normaliser } else { Component::Window },
            cause: cause(state.step, &wrong, right, allowed),
        });
    }

    /// Whether training computed another loss of the window's samples than the probe.
    fn is_another_loss(&self, probe: &Probe, bound: f64) -> bool {
        let (sum, weight) = self.loss;
        let own = probe.rows.iter().map(|row| row.loss.0).sum::<f64>();
        weight > 0.0 && (sum - own).abs() > bound::of_losses(bound, sum, own, weight)
    }

    fn is_of_the_window(&self, probe: &Probe) -> bool {
        let asked = self.asked.iter().find(|asked| asked.name == probe.name);
        asked.is_some_and(|asked| sorted(&asked.samples) == sorted(&self.samples))
    }

    fn update(&mut self, update: &Update) {
        self.updated = Some(update.step);
        self.moved = (self.moved.0 || self.moved.1, update.applied && update.lr.iter().any(|lr| lr.0 != 0.0));
    }
}

fn sorted(ids: &[u64]) -> Vec<u64> {
    let mut ids = ids.to_vec();
    ids.sort_unstable();
    ids
}

/// What the tensors whose gradients are not as due, each with its norm in training, have in common.
fn cause(step: u64, wrong: &[(&ProbeGradient, Number)], right: u64, allowed: f64) -> String {
    if wrong.iter().any(|(due, actual)| !actual.is_finite() || !due.norm.is_finite()) {
        return "the window's gradient is finite outside training and not in it, or the reverse".to_owned();
    }
    let factor = |(due, actual): &(&ProbeGradient, Number)| actual.0 / due.norm.0;
    let factors = || wrong.iter().filter(|(due, _)| due.norm.0 > 0.0).map(factor);
    let (least, most) =
        factors().fold((f64::INFINITY, 0.0_f64), |(least, most), it| (least.min(it), most.max(it)));
    let one = wrong.first().map_or(1.0, factor);
    // Within rounding, or within 1 %, each tensor's gradient is the same multiple of the one that is due.
    let is_one =
        wrong.iter().all(|(due, actual)| (actual.0 - one * due.norm.0).abs() <= allowed + 0.01 * actual.0);
    let names: Vec<&str> = wrong.iter().take(3).map(|(due, _)| due.name.as_str()).collect();
    match (is_one && right == 0, step) {
        (true, 1) => {
            format!("the gradient is {one:.4} of what the contract gives: check what the loss is divided by")
        }
        (true, _) => format!(
            "the gradient is {one:.4} of the window's own: gradients of an earlier window are still in the buffers \
             (check zero_grad), or the loss is scaled wrongly"
        ),
        (false, _) if right > 0 => {
            let (which, range) = match names.as_slice() {
                [one] => (format!("the gradient of {one} is"), format!("{least:.4}")),
                some => (
                    format!("the gradients of {} tensors ({}) are", wrong.len(), some.join(", ")),
                    format!("{least:.4} to {most:.4}"),
                ),
            };
            format!(
                "{which} {range} of the window's own, and {right} others are right: no divisor does this, but one of several \
                 losses may, or what writes these gradients"
            )
        }
        (false, _) => format!(
            "the gradients are {least:.4} to {most:.4} of the window's own, by tensor: one of several losses is weighed otherwise, \
             other rows make it, or gradients of an earlier window are left"
        ),
    }
}

impl TraceRule for LossScale {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        if !self.applies {
            return;
        }
        match &line.event {
            Event::Probe(probe)
                if probe.name.starts_with("window:") && probe.at.as_deref() == Some("start") =>
            {
                self.probes.push((**probe).clone());
            }
            Event::MicroBatch(seen) if !self.probes.is_empty() && !self.moved.0 => self.micro_batch(seen),
            Event::Update(update) => self.update(update),
            Event::State(state)
                if state.at == Moment::Update && self.updated == Some(state.step) && !self.moved.0 =>
            {
                self.state(line, state, sheet);
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use traintrue_protocol::trace::event::ProbeRow;

    /// A whole run whose first window was probed, its first update's gradient norms `factor` times the probe's.
    fn probed(factor: f64) -> Vec<Event> {
        let mut events = whole();
        let (mut window, mut loss) = (Vec::new(), 0.0);
        for event in &events {
            match event {
                Event::MicroBatch(seen) => {
                    window.extend(seen.samples.clone().unwrap_or_default());
                    loss += seen.losses.iter().filter(|it| it.name == "lm").map(|it| it.sum.0).sum::<f64>();
                }
                Event::Update(_) => break,
                _ => {}
            }
        }
        let state = state_at(&mut events, Moment::Update);
        let gradients = state.tensors.iter().filter_map(|tensor| {
            let norm = Number(tensor.grad_norm?.0 / factor);
            Some(ProbeGradient {
                name: tensor.name.clone(),
                shape: tensor.shape.clone(),
                norm,
                sketch: Vec::new(),
            })
        });
        let probe = Probe {
            name: "window:1".into(),
            at: Some("start".into()),
            rows: vec![ProbeRow { loss: Number(loss), logits: Vec::new(), head: Vec::new(), nonfinite: 0 }],
            width: Some(4),
            cache_bytes: None,
            gradients: gradients.collect(),
        };
        if let Event::Run(run) = &mut events[0] {
            run.plan.train.dropout = 0.0;
            let asked = run.plan.probes[0].clone();
            run.plan.probes.push(Asked { name: "window:1".into(), samples: window, ..asked });
        }
        events.insert(1, Event::Probe(Box::new(probe)));
        events
    }

    #[test]
    fn a_gradient_of_the_probes_size_holds() {
        holds(&judge(RULE.name, &probed(1.0)));
    }

    #[test]
    fn a_probe_of_another_loss_says_nothing() {
        let mut events = probed(1.0 / 3.0);
        if let Event::Probe(probe) = &mut events[1] {
            probe.rows[0].loss.0 *= 1.1;
        }
        let sheet = judge(RULE.name, &events);
        assert!(sheet.broken.is_none(), "{sheet:?}");
        assert!(sheet.missing.is_some_and(|why| why.contains("another loss of the same samples")));
    }

    #[test]
    fn a_gradient_that_is_divided_once_more_breaks() {
        let found = breaks(judge(RULE.name, &probed(1.0 / 3.0)), "normaliser");
        assert!(found.contains("0.3333 of what the contract gives"), "{found}");
    }

    #[test]
    fn one_tensor_of_several_is_no_matter_of_the_divisor() {
        let mut events = probed(1.0);
        if let Event::Probe(probe) = &mut events[1] {
            probe.gradients[0].norm.0 *= 4.0;
        }
        let found = breaks(judge(RULE.name, &events), "normaliser");
        assert!(found.contains("is 0.2500 of the window's own, and "), "{found}");
    }
}
