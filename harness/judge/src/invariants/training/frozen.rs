//! `state/frozen-constant`: a frozen tensor does not change.

use std::collections::HashMap;

use traintrue_protocol::trace::event::State;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

pub(crate) static RULE: Rule = Rule {
    name: "state/frozen-constant",
    says: "a frozen tensor keeps its values",
    verifies: "The digest of every frozen tensor is the same in every state of a trace.",
    does_not_verify: "That the right tensors are frozen (state/trains-what-was-asked). A change that is undone before \
                      the next state. In recorded loops, frozen tensors that no optimizer holds: a momentum encoder or \
                      a target network is frozen, and the loop changes it.",
    kind: Kind::Trace(|opening| Box::new(Frozen::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::State,
    needs: &[],
};

struct Frozen {
    recorded: bool,
    digests: HashMap<String, String>,
}

impl Frozen {
    fn new(opening: &Opening) -> Self {
        Self { recorded: opening.recorded.is_some(), digests: HashMap::new() }
    }

    fn state(&mut self, it: &State, line: &Line, sheet: &mut Sheet) {
        for tensor in it.tensors.iter().filter(|tensor| !tensor.trainable) {
            let Some(first) = self.digests.get(&tensor.name) else {
                self.digests.insert(tensor.name.clone(), tensor.digest.clone());
                continue;
            };
            if self.recorded && !tensor.optimized {
                continue;
            }
            sheet.check(*first == tensor.digest, line, || Difference {
                expected: format!("{} unchanged: {first}", tensor.name),
                actual: tensor.digest.clone(),
                component: Component::OptimizerGroups,
                cause: "a frozen tensor changed: check whether the optimizer holds it and applies weight decay to it".into(),
            });
        }
    }
}

impl TraceRule for Frozen {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        if let Event::State(it) = &line.event {
            self.state(it, line, sheet);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;
    use traintrue_protocol::vocabulary::Moment;

    #[test]
    fn a_healthy_trace_holds() {
        holds(&judge(RULE.name, &whole()));
    }

    #[test]
    fn a_base_that_drifts_breaks() {
        let mut events = whole();
        state_at(&mut events, Moment::End).tensors[0].digest = "t:other".into();
        breaks(judge(RULE.name, &events), "optimizer-groups");
    }
}
