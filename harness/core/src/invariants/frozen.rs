//! `state/frozen-constant`: what does not train does not change.

use std::collections::HashMap;

use super::{Kind, Rule, Watch};
use crate::finding::{Difference, Sheet};
use crate::trace::event::State;
use crate::trace::{Event, Line};

pub(super) static RULE: Rule = Rule {
    name: "state/frozen-constant",
    says: "a tensor that does not train keeps its values",
    verifies: "The digest of every frozen tensor is the same in every state of a trace.",
    does_not_verify: "That the right tensors are frozen (state/trains-what-was-asked), and what happens between two \
                      states and is undone.",
    kind: Kind::Trace(|_| Box::new(Frozen::default())),
};

#[derive(Default)]
struct Frozen {
    digests: HashMap<String, String>,
}

impl Frozen {
    fn state(&mut self, it: &State, line: &Line, sheet: &mut Sheet) {
        for tensor in it.tensors.iter().filter(|tensor| !tensor.trainable) {
            let Some(first) = self.digests.get(&tensor.name) else {
                self.digests.insert(tensor.name.clone(), tensor.digest.clone());
                continue;
            };
            sheet.check(*first == tensor.digest, line, || Difference {
                expected: format!("{} unchanged: {first}", tensor.name),
                actual: tensor.digest.clone(),
                component: "optimizer-groups",
                cause: "a frozen tensor drifts: the optimizer holds it, or decays it".into(),
            });
        }
    }
}

impl Watch for Frozen {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        if let Event::State(it) = &line.event {
            self.state(it, line, sheet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::invariants::testing::*;

    #[test]
    fn a_healthy_trace_holds() {
        holds(&judge(RULE.name, &whole()));
    }

    #[test]
    fn a_base_that_drifts_breaks() {
        let mut events = whole();
        state_at(&mut events, "end").tensors[0].digest = "t:other".into();
        breaks(judge(RULE.name, &events), "optimizer-groups");
    }
}
