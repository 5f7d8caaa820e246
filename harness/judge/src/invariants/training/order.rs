//! `order/as-planned`: samples in the order of their ids without `shuffle`, and with it in another order each epoch.

use traintrue_protocol::plan::Data;
use traintrue_protocol::trace::event::{Edge, Epoch, MicroBatch};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

/// Fewer samples may come in any order by chance. Of so many, one of 16! orders is the one that a finding names.
pub(super) const FEWEST: usize = 16;
/// Epochs whose orders are kept, to be compared with later ones.
const EPOCHS_MOST: usize = 16;
/// An epoch of more samples is compared by its first so many.
const SAMPLES_MOST: usize = 100_000;

pub(crate) static RULE: Rule = Rule {
    name: "order/as-planned",
    says: "without shuffle samples come in the order of their ids; with it each epoch has an order of its own",
    verifies: "Without `shuffle`, the sample ids of an epoch rise from micro-batch to micro-batch. With it, an epoch of 16 \
               samples or more, seen from its beginning to its end, is not in the order of the ids, not that order begun \
               elsewhere, and not whole batches of neighbours in another order; of 48 samples or more, not each is within a \
               quarter of the set of its own place; and no two epochs have one order, nor one order begun elsewhere.",
    does_not_verify: "That the order is random otherwise. That the seed decides it (seed/decides). That every sample comes \
                      once (ledger/every-sample-once).",
    kind: Kind::Trace(|opening| Box::new(Order::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Samples,
    needs: &[Fact::Plan],
};

struct Order {
    shuffles: bool,
    epoch: u64,
    /// Whether the epoch was seen from its beginning.
    whole: bool,
    ids: Vec<u64>,
    /// Micro-batches of two samples or more, and those of them whose ids follow each other.
    batches: (u64, u64),
    last: Option<u64>,
    before: Vec<(u64, Vec<u64>)>,
}

impl Order {
    fn new(opening: &Opening) -> Self {
        let Data { shuffle, .. } = opening.plan.data;
        Self {
            shuffles: shuffle,
            epoch: 0,
            whole: false,
            ids: Vec::new(),
            batches: (0, 0),
            last: None,
            before: Vec::new(),
        }
    }

    fn begin(&mut self, epoch: u64, whole: bool) {
        (self.epoch, self.whole, self.batches, self.last) = (epoch, whole, (0, 0), None);
        self.ids.clear();
    }

    fn micro_batch(&mut self, it: &MicroBatch, line: &Line, sheet: &mut Sheet) {
        let Some(samples) = it.samples.as_ref().filter(|samples| !samples.is_empty()) else { return };
        if it.epoch != self.epoch {
            self.begin(it.epoch, false);
        }
        if !self.shuffles {
            // Within a micro-batch their order changes nothing: rows may be sorted by their length.
            let first = samples.iter().copied().min();
            let follows = self.last.is_none_or(|last| Some(last) < first);
            sheet.check(follows, line, || Difference {
                expected: format!("ids above {}: the plan does not shuffle", self.last.unwrap_or(0)),
                actual: format!("{samples:?}"),
                component: Component::Order,
                cause: "the samples are not in the order of the dataset, though nothing is to shuffle them: check the \
                        sampler and `shuffle`".into(),
            });
        }
        self.last = samples.iter().copied().max();
        if samples.len() > 1 {
            let neighbours = samples.windows(2).all(|pair| pair[0].checked_add(1) == Some(pair[1]));
            self.batches = (self.batches.0 + 1, self.batches.1 + u64::from(neighbours));
        }
        let room = SAMPLES_MOST.saturating_sub(self.ids.len());
        self.ids.extend(samples.iter().take(room));
    }

    fn end(&mut self, it: &Epoch, line: &Line, sheet: &mut Sheet) {
        if !self.shuffles || !self.whole || it.epoch != self.epoch || self.ids.len() < FEWEST {
            return;
        }
        let cause = self.cause();
        sheet.check(cause.is_none(), line, || Difference {
            expected: format!("an order of its own for epoch {}", it.epoch),
            actual: format!("{:?} …", &self.ids[..8]),
            component: Component::Order,
            cause: cause.unwrap_or_default(),
        });
        if self.before.len() < EPOCHS_MOST {
            self.before.push((it.epoch, std::mem::take(&mut self.ids)));
        }
    }

    fn cause(&self) -> Option<String> {
        let falls = self.ids.windows(2).filter(|pair| pair[0] > pair[1]).count();
        let (batches, neighbours) = self.batches;
        let epoch = self.epoch;
        if falls == 0 {
            return Some(format!("epoch {epoch} is in the order of the dataset: nothing shuffles it"));
        }
        if falls == 1 && self.ids.last() < self.ids.first() {
            return Some(format!(
                "epoch {epoch} is in the order of the dataset, begun at sample {}: it is not shuffled",
                self.ids[0]
            ));
        }
        if batches >= 6 && batches == neighbours {
            return Some(
                "whole batches of neighbours are shuffled, and not the samples: check what is given to the \
                         sampler"
                    .into(),
            );
        }
        if let Some(most) = near_its_place(&self.ids) {
            return Some(format!(
                "no sample of epoch {epoch} is further than {most} places from its own: a buffer shuffles it, and not the whole set"
            ));
        }
        self.before.iter().find_map(|(before, ids)| {
            if *ids == self.ids {
                return Some(format!(
                    "epoch {epoch} has the order of epoch {before}: check that the sampler is told the epoch (set_epoch), or \
                     draws on from one generator"
                ));
            }
            is_turned(ids, &self.ids).then(|| {
                format!("epoch {epoch} has the order of epoch {before}, begun at sample {}", self.ids[0])
            })
        })
    }
}

/// How far a sample is from its place at most, if all of so many are so near to it that no shuffle of the whole is likely.
fn near_its_place(ids: &[u64]) -> Option<u64> {
    let most = ids.iter().enumerate().map(|(at, id)| id.abs_diff(at as u64)).max()?;
    // Each of 48 samples within a quarter of the set of its place: once in 1e12 shuffles.
    (ids.len() >= 48 && most.saturating_mul(4) <= ids.len() as u64).then_some(most)
}

/// Whether one list is the other, begun elsewhere.
fn is_turned(one: &[u64], other: &[u64]) -> bool {
    let begin = other.first().and_then(|first| one.iter().position(|id| id == first));
    one.len() == other.len() && begin.is_some_and(|begin| one[begin..].iter().chain(&one[..begin]).eq(other))
}

impl TraceRule for Order {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        match &line.event {
            Event::MicroBatch(it) => self.micro_batch(it, line, sheet),
            Event::Epoch(it) if it.edge == Edge::Begin => self.begin(it.epoch, true),
            Event::Epoch(it) => self.end(it, line, sheet),
            // Another grouping goes on in the same order; its batches are others.
            Event::Adapted(it) if it.batches().is_some() => self.batches = (0, 0),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::*;

    /// 17 samples: a prime number, so that steps of any length make an order of them.
    fn ordered(shuffle: bool, id: fn(epoch: u64, place: u64) -> u64) -> Vec<Event> {
        let mut plan = plan();
        plan.data.shuffle = shuffle;
        plan.data.samples = vec![vec![9; 4]; 17];
        let mut events = segment(&plan, None, None);
        for event in &mut events {
            if let Event::MicroBatch(it) = event {
                let (epoch, index) = (it.epoch, it.index);
                let places = (index * 2..(index * 2 + 2).min(17)).map(|place| id(epoch, place));
                it.samples = Some(places.collect());
            }
        }
        events
    }

    #[rstest]
    #[case::shuffled(true, |epoch, place| (place * (5 + epoch) + epoch) % 17)]
    #[case::in_order(false, |_, place| place)]
    // Within a micro-batch of two the longer row may come first.
    #[case::sorted_within_a_micro_batch(false, |_, place| if place == 16 { 16 } else { place ^ 1 })]
    fn an_order_as_planned_holds(#[case] shuffle: bool, #[case] id: fn(u64, u64) -> u64) {
        holds(&judge(RULE.name, &ordered(shuffle, id)));
    }

    #[rstest]
    #[case::shuffled_unasked(false, |epoch, place| (place * (5 + epoch)) % 17, "though nothing is to shuffle them")]
    #[case::never(true, |_, place| place, "epoch 0 is in the order of the dataset: nothing shuffles it")]
    #[case::begun_elsewhere(true, |epoch, place| (place + 5 + epoch) % 17, "begun at sample 5: it is not shuffled")]
    #[case::again(true, |_, place| (place * 5) % 17, "epoch 1 has the order of epoch 0: check that the sampler")]
    #[case::again_elsewhere(true, |epoch, place| ((place + 3 * epoch) * 5) % 17, "epoch 0, begun at sample 15")]
    #[case::batches(true, |epoch, place| (place / 2 * (3 + epoch) % 8) * 2 + place % 2, "whole batches of neighbours")]
    fn another_order_says_which(#[case] shuffle: bool, #[case] id: fn(u64, u64) -> u64, #[case] cause: &str) {
        let found = breaks(judge(RULE.name, &ordered(shuffle, id)), "order");
        assert!(found.contains(cause), "{found}");
    }

    #[test]
    fn a_shuffle_within_blocks_is_no_shuffle_of_the_whole() {
        let in_blocks: Vec<u64> = (0..64).map(|place| place / 8 * 8 + place * 5 % 8).collect();
        assert!(near_its_place(&in_blocks).is_some_and(|most| most < 8));
        let whole: Vec<u64> = (0..64).map(|place| place * 29 % 64).collect();
        assert_eq!(near_its_place(&whole), None);
        assert_eq!(near_its_place(&in_blocks[..40]), None);
    }

    #[test]
    fn an_epoch_that_is_not_seen_from_its_beginning_is_not_judged() {
        let mut events = ordered(true, |_, place| place);
        events.retain(|event| !matches!(event, Event::Epoch(it) if it.edge == Edge::Begin));
        assert_eq!(judge(RULE.name, &events).compared, 0);
    }
}
