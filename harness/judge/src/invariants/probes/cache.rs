//! `cache/off-in-training`: training allocates no key-value cache, and recomputes activations if the plan says so.

use traintrue_protocol::trace::event::MicroBatch;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

pub(crate) static RULE: Rule = Rule {
    name: "cache/off-in-training",
    says: "no training forward pass allocates a key-value cache, including the first, and checkpointing is as planned",
    verifies: "cache_bytes is 0 at every micro-batch, whatever the model's configuration says. checkpointing equals \
               the plan's at every micro-batch.",
    does_not_verify: "That recomputing saves memory (checkpointing/lower-peak) and changes no gradient \
                      (partition/same-update).",
    kind: Kind::Trace(|opening| Box::new(Cache::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Cache,
    needs: &[Fact::Plan],
};

struct Cache {
    checkpointing: bool,
    first: bool,
}

impl Cache {
    fn new(opening: &Opening) -> Self {
        Self { checkpointing: opening.plan.train.checkpointing, first: true }
    }

    fn micro_batch(&mut self, it: &MicroBatch, line: &Line, sheet: &mut Sheet) {
        let (asked, first) = (self.checkpointing, self.first);
        match it.cache_bytes {
            None => sheet.missing("cache_bytes"),
            Some(bytes) => {
                sheet.check(bytes == 0, line, || Difference {
                    expected: "0 bytes of key-value cache".into(),
                    actual: bytes.to_string(),
                    component: Component::CachePolicy,
                    cause: if first {
                        "the first forward pass allocates a key-value cache: switch it off (use_cache) before that pass"
                            .into()
                    } else {
                        "training allocates a key-value cache that nothing reads: switch it off (use_cache)".into()
                    },
                });
            }
        }
        match it.checkpointing {
            None => sheet.missing("checkpointing"),
            Some(found) => {
                sheet.check(found == asked, line, || Difference {
                    expected: format!("checkpointing {}", if asked { "on" } else { "off" }),
                    actual: if found { "on" } else { "off" }.into(),
                    component: Component::Checkpointing,
                    cause: "activation checkpointing differs from the plan: check that the switch reaches the layers \
                            and that the model is in training mode"
                        .into(),
                });
            }
        }
        self.first = false;
    }
}

impl TraceRule for Cache {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        if let Event::MicroBatch(it) = &line.event {
            self.micro_batch(it, line, sheet);
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::*;

    #[test]
    fn a_healthy_trace_holds() {
        holds(&judge(RULE.name, &whole()));
    }

    #[rstest]
    #[case(0, |it: &mut MicroBatch| it.cache_bytes = Some(4096), "cache-policy", "the first forward pass allocates")]
    #[case(3, |it: &mut MicroBatch| it.cache_bytes = Some(4096), "cache-policy", "training allocates a key-value cache")]
    #[case(3, |it: &mut MicroBatch| it.checkpointing = Some(true), "checkpointing", "differs from the plan")]
    fn a_wrong_forward_breaks(
        #[case] index: u64,
        #[case] change: fn(&mut MicroBatch),
        #[case] component: &str,
        #[case] cause: &str,
    ) {
        let mut events = whole();
        change(batch_at(&mut events, 0, index));
        let found = breaks(judge(RULE.name, &events), component);
        assert!(found.contains(cause), "{found}");
    }
}
