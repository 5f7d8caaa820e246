//! `state/gets-gradient`: every trainable tensor gets a gradient by the end.

use std::collections::{BTreeMap, BTreeSet};

use traintrue_protocol::trace::event::State;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule, TraceRule};

/// Before this update, one half of a fresh adapter has a gradient of 0, because the other half is 0.
const SETTLED: u64 = 3;
/// One window may leave a tensor out.
const UPDATES: usize = 2;

pub(crate) static RULE: Rule = Rule {
    name: "state/gets-gradient",
    says: "every trainable tensor has had a gradient by the end of a run",
    verifies: "Over the states of a trace from update 3 on in which some tensor has a gradient, of two updates or more: each \
               trainable tensor has one in one of them. An adapter's tensor whose values are all 0 has one that is not 0.",
    does_not_verify: "That the gradient is right (partition/same-update, probes). Traces without such a state. Tensors that the \
                      optimizer does not hold (state/trains-what-was-asked).",
    kind: Kind::Trace(|_| Box::<Gradients>::default()),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::State,
    needs: &[Fact::Plan],
};

/// The tensors, and the updates whose gradients were seen.
#[derive(Default)]
struct Gradients {
    seen: BTreeMap<String, Seen>,
    updates: BTreeSet<u64>,
}

/// What was seen of one tensor.
struct Seen {
    group: String,
    has_gradient: bool,
    /// Whether its values and its gradient were 0 each time.
    is_dead: bool,
}

impl Gradients {
    fn state(&mut self, it: &State) {
        // The gradients of a window without a target are all 0: they say nothing of one tensor.
        let tells = it.tensors.iter().any(|tensor| tensor.grad_norm.is_some_and(|norm| norm.0 != 0.0));
        if it.step < SETTLED || !tells {
            return;
        }
        self.updates.insert(it.step);
        for tensor in it.tensors.iter().filter(|tensor| tensor.trainable && tensor.optimized) {
            // One that is 0 is a gradient, too: samples may be so alike that a loss has nothing to learn from them.
            let fresh = || Seen { group: tensor.group.clone(), has_gradient: false, is_dead: true };
            let seen = self.seen.entry(tensor.name.clone()).or_insert_with(fresh);
            seen.has_gradient |= tensor.grad_norm.is_some();
            let is_zero = !tensor.sketch.is_empty() && tensor.sketch.iter().all(|it| it.0 == 0.0);
            seen.is_dead &= is_zero && tensor.grad_norm.is_some_and(|norm| norm.0 == 0.0);
        }
    }
}

impl Gradients {
    /// One half of a fresh adapter is 0 until the other half gives it a gradient; where both are 0, neither ever gets one.
    fn dead(&self, last: &Line, sheet: &mut Sheet) {
        let dead: Vec<_> =
            self.seen.iter().filter(|(_, seen)| seen.is_dead && seen.group == "adapter").collect();
        let Some((name, _)) = dead.first() else { return };
        sheet.check(false, last, || Difference {
            expected: format!("a gradient of {name}, whose values are 0, in one of {} updates", self.updates.len()),
            actual: format!("0 in each, and of {} of {} trainable tensors", dead.len(), self.seen.len()),
            component: Component::Adapters,
            cause: format!("{name} is 0 and its gradient, too: both matrices of its adapter begin at 0, and it never learns"),
        });
    }
}

impl TraceRule for Gradients {
    fn see(&mut self, line: &Line, _sheet: &mut Sheet) {
        if let Event::State(it) = &line.event {
            self.state(it);
        }
    }

    fn finish(&mut self, last: &Line, sheet: &mut Sheet) {
        if self.updates.len() < UPDATES {
            return;
        }
        let silent: Vec<_> = self.seen.iter().filter(|(_, seen)| !seen.has_gradient).collect();
        sheet.compared += (self.seen.len() - silent.len()) as u64;
        let Some((name, Seen { group, .. })) = silent.first() else { return self.dead(last, sheet) };
        sheet.check(false, last, || Difference {
            expected: format!("a gradient of {name} in one of {} updates", self.updates.len()),
            actual: format!("none, and none of {} of {} trainable tensors", silent.len(), self.seen.len()),
            component: match group.as_str() {
                "adapter" => Component::Adapters,
                "base" => Component::OptimizerGroups,
                _ => Component::Heads,
            },
            cause: format!(
                "{name} is trainable and no gradient reaches it: check for detach(), no_grad(), an operation without a \
                 backward pass, or a loss that is left out of what backward() runs on"
            ),
        });
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use traintrue_protocol::number::Number;

    use super::*;
    use crate::testing::*;

    fn with(tensor: usize, norm: Option<f64>) -> Vec<Event> {
        let mut events = whole();
        for event in &mut events {
            if let Event::State(it) = event {
                it.tensors[tensor].grad_norm = norm.map(Number);
            }
        }
        events
    }

    #[test]
    fn a_healthy_trace_holds() {
        holds(&judge(RULE.name, &whole()));
    }

    #[rstest]
    #[case::adapter(1, "adapters")]
    #[case::head(2, "heads")]
    fn a_tensor_that_never_gets_a_gradient_breaks(#[case] tensor: usize, #[case] component: &str) {
        breaks(judge(RULE.name, &with(tensor, None)), component);
    }

    #[test]
    fn a_gradient_of_0_is_one() {
        holds(&judge(RULE.name, &with(2, Some(0.0))));
    }

    #[test]
    fn an_adapter_that_is_0_and_stays_0_breaks() {
        let mut events = with(1, Some(0.0));
        for event in &mut events {
            if let Event::State(it) = event {
                it.tensors[1].sketch.iter_mut().for_each(|it| it.0 = 0.0);
            }
        }
        let found = breaks(judge(RULE.name, &events), "adapters");
        assert!(found.contains("both matrices of its adapter begin at 0"), "{found}");
        holds(&judge(RULE.name, &with(1, Some(0.0))));
    }

    #[test]
    fn a_window_without_a_target_says_nothing() {
        let mut events = whole();
        for event in &mut events {
            if let Event::State(it) = event {
                it.tensors.iter_mut().for_each(|tensor| tensor.grad_norm = Some(Number(0.0)));
            }
        }
        let sheet = judge(RULE.name, &events);
        assert!(sheet.broken.is_none() && sheet.compared == 0);
    }

    #[test]
    fn a_frozen_tensor_needs_none() {
        holds(&judge(RULE.name, &with(0, None)));
    }
}
