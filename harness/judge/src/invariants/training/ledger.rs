//! `ledger/every-sample-once`: an epoch trains every sample exactly once.

use traintrue_protocol::plan::Data;
use traintrue_protocol::trace::event::{Edge, MicroBatch};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::arithmetic::Counts;
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

pub(crate) static RULE: Rule = Rule {
    name: "ledger/every-sample-once",
    says: "an epoch trains every sample of its rank exactly once",
    verifies: "No sample id occurs twice within an epoch, and none is outside the plan. An epoch that begins and ends \
               in the trace trains as many samples as the plan gives this rank. The judge keeps one bit per sample.",
    does_not_verify: "The order of the samples (determinism/repeat, seam/identical). How the samples are divided among \
                      the ranks.",
    kind: Kind::Trace(|opening| Box::new(Ledger::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Samples,
    needs: &[Fact::Plan],
};

struct Ledger {
    samples: u64,
    expected: Expected,
    seen: Vec<u64>,
    epoch: Option<u64>,
    trained: u64,
    /// Whether the trace has this epoch from its beginning: a resumed trace may not, and then its length says nothing.
    whole: bool,
}

/// Samples of a whole epoch of one rank. A smaller last micro-batch goes to one rank, which has `least`; the others
/// have `most`. The trace does not say which rank that is.
struct Expected {
    least: u64,
    most: u64,
}

impl Expected {
    fn of(data: &Data, counts: &Counts, world: u64) -> Self {
        let samples = data.samples.len() as u64;
        let full = counts.micro_batches.saturating_mul(data.batch);
        let short = full.saturating_mul(world).saturating_sub(samples);
        Self { least: full - short.min(full), most: if world == 1 { full - short.min(full) } else { full } }
    }
}

impl Ledger {
    fn new(opening: &Opening) -> Self {
        let plan = opening.plan;
        let counts = Counts::of(plan, opening.contract);
        let samples = plan.data.samples.len();
        Self {
            samples: samples as u64,
            expected: Expected::of(&plan.data, &counts, plan.train.world.max(1)),
            seen: vec![0; samples.div_ceil(64)],
            epoch: None,
            trained: 0,
            whole: false,
        }
    }

    fn turn_to(&mut self, epoch: u64, whole: bool) {
        self.seen.fill(0);
        (self.epoch, self.trained, self.whole) = (Some(epoch), 0, whole);
    }

    /// Marks a sample as trained. Returns false if it was trained before in this epoch, or is not in the plan.
    fn mark(&mut self, id: u64) -> bool {
        if id >= self.samples {
            return false;
        }
        // A bit set and not a hash set: a large dataset must not make the judge need memory.
        let (word, bit) = ((id / 64) as usize, 1 << (id % 64));
        let fresh = self.seen[word] & bit == 0;
        self.seen[word] |= bit;
        fresh
    }

    fn micro_batch(&mut self, it: &MicroBatch, line: &Line, sheet: &mut Sheet) {
        let Some(samples) = &it.samples else {
            return sheet.missing("samples");
        };
        // A trace that begins within an epoch has no begin event for it; its count is then not compared.
        if self.epoch != Some(it.epoch) {
            self.turn_to(it.epoch, false);
        }
        for &id in samples {
            let (fresh, count) = (self.mark(id), self.samples);
            sheet.check(fresh, line, || Difference {
                expected: format!("each of the {count} samples at most once in epoch {}", it.epoch),
                actual: format!("sample {id} {}", if id < count { "again" } else { "is not in the plan" }),
                component: Component::Data,
                cause: if id < count {
                    format!(
                        "sample {id} is trained twice in epoch {}: check the sampler, and the offset after a resume",
                        it.epoch
                    )
                } else {
                    "the trainer reads data that is not the plan's".into()
                },
            });
        }
        self.trained += samples.len() as u64;
    }
}

impl TraceRule for Ledger {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        match &line.event {
            Event::MicroBatch(it) => self.micro_batch(it, line, sheet),
            Event::Epoch(it) if it.edge == Edge::Begin => self.turn_to(it.epoch, true),
            Event::Epoch(it) if self.whole && self.epoch == Some(it.epoch) && sheet.missing.is_none() => {
                let Expected { least, most } = self.expected;
                let trained = self.trained;
                sheet.check((least..=most).contains(&trained), line, || Difference {
                    expected: format!("{most} samples in epoch {}", it.epoch),
                    actual: trained.to_string(),
                    component: Component::Data,
                    cause: if trained < least {
                        format!("{} samples never reach the model in epoch {}: check drop_last, and the offset after a \
                                 resume", least - trained, it.epoch)
                    } else {
                        "the epoch trains more samples than the plan gives this rank: check the distributed sampler".into()
                    },
                });
            }
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::*;

    #[rstest]
    #[case::whole(whole())]
    #[case::resumed(cut_at(at(0, 4)).remove(1))]
    fn a_healthy_trace_holds(#[case] events: Vec<Event>) {
        holds(&judge(RULE.name, &events));
    }

    #[rstest]
    #[case::twice(vec![0, 3], "sample 0 is trained twice in epoch 0: check the sampler, and the offset after a resume")]
    #[case::left_out(vec![3], "1 samples never reach the model in epoch 0: check drop_last, and the offset after a \
                               resume")]
    #[case::foreign(vec![2, 99], "the trainer reads data that is not the plan's")]
    fn a_wrong_ledger_breaks(#[case] samples: Vec<u64>, #[case] cause: &str) {
        let mut events = whole();
        batch_at(&mut events, 0, 1).samples = Some(samples);
        assert_eq!(breaks(judge(RULE.name, &events), "data"), cause);
    }

    #[rstest]
    // 13 samples in 7 micro-batches of 2, one short; two ranks have 3 each, all of them full.
    #[case(1, (13, 13))]
    #[case(2, (6, 6))]
    // Seven ranks have one each, and one of them has the short one.
    #[case(7, (1, 2))]
    fn a_rank_has_its_share(#[case] world: u64, #[case] expected: (u64, u64)) {
        let mut plan = plan();
        plan.train.world = world;
        let share = Expected::of(&plan.data, &Counts::of(&plan, &contract()), world);
        assert_eq!((share.least, share.most), expected);
    }
}
