//! `state/optimized-moves`: a trainable tensor that has a gradient changes.

use std::collections::HashMap;

use traintrue_protocol::trace::event::{State, TensorState, Update};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::bound::unit_roundoff;
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

/// Steps of fewer roundoffs than this need not change a value: values may be as large as 64.
const VISIBLE_ROUNDOFFS: f64 = 128.0;

pub(crate) static RULE: Rule = Rule {
    name: "state/optimized-moves",
    says: "a trainable tensor that has a gradient changes from one state to the next",
    verifies: "Between two states with applied updates, the digest of every trainable tensor with a gradient differs. \
               Tensors whose expected step is too small for the number format are left out.",
    does_not_verify: "That the tensor changes by the right amount (seam/identical, partition/same-update). Tensors \
                      without a gradient, such as one half of a fresh adapter.",
    kind: Kind::Trace(|opening| Box::new(Moves::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::State,
    needs: &[Fact::AdamFamily],
};

struct Moves {
    /// Whether no plan says what trains: what no optimizer holds is then for loop/optimizer to judge.
    recorded: bool,
    eps: f64,
    /// The smallest step that changes a value in the plan's number format for certain.
    visible: f64,
    digests: HashMap<String, String>,
    /// The smallest learning rate of any group at the last update. A state shows the gradients of that update only.
    rate: f64,
    /// The share of the last gradient that clipping left, from 0 to 1.
    clipped: f64,
}

impl Moves {
    fn new(opening: &Opening) -> Self {
        let train = &opening.plan.train;
        Self {
            recorded: opening.recorded.is_some(),
            eps: train.optimizer.eps,
            visible: VISIBLE_ROUNDOFFS * unit_roundoff(train.dtype),
            digests: HashMap::new(),
            rate: 0.0,
            clipped: 1.0,
        }
    }

    fn update(&mut self, it: &Update) {
        self.rate = 0.0;
        if !it.applied || it.lr.is_empty() {
            return;
        }
        self.rate = it.lr.iter().map(|lr| lr.0).fold(f64::INFINITY, f64::min);
        self.clipped = match (it.grad_norm, it.clipped_norm) {
            (Some(before), Some(after)) if before.0 > 0.0 => after.0 / before.0,
            _ => 1.0,
        };
    }

    /// The step that an element of the tensor takes by its gradient: AdamW divides by its size, plus `eps`.
    fn step(&self, tensor: &TensorState) -> f64 {
        let numel = tensor.elements().max(1) as f64;
        let gradient = tensor.grad_norm.map_or(0.0, |norm| norm.0) * self.clipped / numel.sqrt();
        if gradient > 0.0 { self.rate * gradient / (gradient + self.eps) } else { 0.0 }
    }

    fn state(&mut self, it: &State, line: &Line, sheet: &mut Sheet) {
        let judged = |tensor: &&TensorState| tensor.trainable && (tensor.optimized || !self.recorded);
        for tensor in it.tensors.iter().filter(judged) {
            if let Some(before) = self.digests.get(&tensor.name)
                && self.step(tensor) > self.visible
            {
                sheet.check(*before != tensor.digest, line, || Difference {
                    expected: format!("{} to change", tensor.name),
                    actual: format!("unchanged: {before}"),
                    component: Component::OptimizerGroups,
                    cause: "the tensor has a gradient but the optimizer does not change it: check the optimizer's \
                            parameter groups".into(),
                });
            }
        }
        let trained = it.tensors.iter().filter(|tensor| tensor.trainable);
        self.digests = trained.map(|tensor| (tensor.name.clone(), tensor.digest.clone())).collect();
        self.rate = 0.0;
    }
}

impl TraceRule for Moves {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        match &line.event {
            Event::Update(it) => self.update(it),
            Event::State(it) => self.state(it, line, sheet),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use traintrue_protocol::number::Number;
    use traintrue_protocol::vocabulary::Moment;

    /// Makes the head stand still from the first update to the second.
    fn still(events: &mut [Event], norm: f64) {
        let first = state_at(events, Moment::Start).tensors[2].digest.clone();
        let head = &mut state_at(events, Moment::Update).tensors[2];
        (head.digest, head.grad_norm) = (first, Some(Number(norm)));
    }

    #[test]
    fn a_healthy_trace_holds() {
        holds(&judge(RULE.name, &whole()));
    }

    #[test]
    fn a_head_that_stands_still_breaks() {
        let mut events = whole();
        still(&mut events, 0.5);
        breaks(judge(RULE.name, &events), "optimizer-groups");
    }

    #[test]
    fn a_tensor_without_a_gradient_may_stand_still() {
        let mut events = whole();
        still(&mut events, 0.0);
        holds(&judge(RULE.name, &events));
    }
}
