//! `loop/learns`: when the parameters move, the loss of the same samples does.

use std::collections::HashMap;
use std::hash::{DefaultHasher, Hash, Hasher};

use traintrue_protocol::trace::event::{MicroBatch, Update};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use super::seen::Sightings;
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule, TraceRule};

/// Fewer batches that come again show nothing.
const LEAST: u64 = 8;
/// Fewer epochs show nothing.
const EPOCHS: usize = 3;
/// Batches that are remembered.
const MOST: usize = 1 << 16;
/// Relative: the mean over an epoch is summed in another order each time.
const SUMMED: f64 = 1e-6;
/// Relative to the loss: updates that should change it by less show nothing.
const FELT: f64 = 1e-3;

pub(crate) static RULE: Rule = Rule {
    name: "loop/learns",
    says: "when the parameters move, the loss of the same samples does",
    verifies: "Where batches come again with the same samples, or each epoch has the same mean loss over as many \
               samples: not all of them have the loss that they had before, although updates lie between whose \
               gradients should change it. Not every gradient of the run is 0.",
    does_not_verify: "That the loss falls. Loops with dropout or augmentation, whose losses differ in any case.",
    kind: Kind::Trace(|_| Box::new(Learns::default())),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::State,
    needs: &[Fact::Observed],
};

#[derive(Default)]
struct Learns {
    /// The last loss of a batch, by its samples, and the updates before it.
    seen: HashMap<u64, (f64, u64)>,
    updates: u64,
    same: u64,
    other: u64,
    first: Option<(Line, f64)>,
    /// By epoch: sum of the losses and micro-batches.
    epochs: Vec<(u64, f64, u64)>,
    /// What the updates should have changed the loss by, to first order.
    expected: f64,
    /// Updates with gradients of 0 that nobody cleared.
    without_gradient: Sightings,
}

impl Learns {
    fn micro_batch(&mut self, it: &MicroBatch, line: &Line) {
        let [loss] = it.losses.as_slice() else { return };
        // What backward() is called on decides: the loss that torch gave may be a part of it that is constant.
        let mean = it.backward.map_or(loss.sum.0 / loss.weight.0, |value| value.0);
        if !mean.is_finite() || mean == 0.0 {
            return;
        }
        match self.epochs.last_mut() {
            Some((epoch, sum, count)) if *epoch == it.epoch => (*sum, *count) = (*sum + mean, *count + 1),
            _ => self.epochs.push((it.epoch, mean, 1)),
        }
        let Some(samples) = &it.samples else { return };
        let mut hasher = DefaultHasher::new();
        samples.hash(&mut hasher);
        let key = hasher.finish();
        let known = self.seen.len() < MOST || self.seen.contains_key(&key);
        let now = (mean, self.updates);
        let before = known.then(|| self.seen.insert(key, now)).flatten();
        // A batch that comes again before an update has the loss that it had.
        if let Some((before, _)) = before.filter(|(_, updates)| *updates < self.updates) {
            if before == mean {
                self.same += 1;
                self.first.get_or_insert_with(|| (line.clone(), mean));
            } else {
                self.other += 1;
            }
        }
    }

    fn update(&mut self, it: &Update, line: &Line) {
        let norm = it.clipped_norm.or(it.grad_norm).map_or(0.0, |norm| norm.0);
        let rate = it.lr.iter().map(|lr| lr.0).fold(0.0, f64::max);
        self.updates += u64::from(it.applied);
        let cleared = it.since.as_ref().is_none_or(|since| since.unused > 0);
        if it.applied && !cleared && it.grad_norm.is_some_and(|norm| norm.0 == 0.0) {
            self.without_gradient.add(line);
        }
        if it.applied && norm.is_finite() {
            self.expected += rate * norm.min(norm * norm);
        }
    }

    /// The mean loss that each of several epochs of one length has.
    fn constant(&self) -> Option<f64> {
        let [(_, first, count), rest @ ..] = self.epochs.as_slice() else { return None };
        let mean = first / *count as f64;
        let same = rest
            .iter()
            .all(|(_, sum, others)| others == count && (sum / *others as f64 / mean - 1.0).abs() < SUMMED);
        (rest.len() + 1 >= EPOCHS && *count > 1 && same).then_some(mean)
    }
}

impl TraceRule for Learns {
    fn see(&mut self, line: &Line, _sheet: &mut Sheet) {
        match &line.event {
            Event::MicroBatch(it) => self.micro_batch(it, line),
            Event::Update(it) => self.update(it, line),
            _ => {}
        }
    }

    fn finish(&mut self, last: &Line, sheet: &mut Sheet) {
        if let Some(line) = self.without_gradient.at_least(LEAST.max(self.updates)) {
            sheet.check(false, line, || Difference {
                expected: "a gradient that is not 0 in one of the updates".into(),
                actual: format!("0 in each of {}", self.updates),
                component: Component::Window,
                cause: "every gradient is exactly 0: the loss does not depend on the parameters (a softmax over one class, a \
                        constant, a part that is detached), or its gradients are too small for their format"
                    .into(),
            });
            return;
        }
        sheet.compared += self.other;
        let again = self.first.as_ref().filter(|_| self.other == 0 && self.same >= LEAST);
        let (line, loss, what) = match (again, self.constant()) {
            (Some((line, loss)), _) => {
                (line, *loss, format!("each of {} batches that came again", self.same))
            }
            (None, Some(mean)) => (last, mean, format!("each of {} epochs, on average", self.epochs.len())),
            (None, None) => return,
        };
        if self.expected < FELT * loss.abs() {
            return;
        }
        sheet.check(false, line, || Difference {
            expected: "another loss of the same samples after the updates".into(),
            actual: format!("the same loss for {what}, as {loss}"),
            component: Component::Optimizer,
            cause: "the forward pass does not see what the updates change: it runs on copies of the parameters, such as \
                    those that one autocast around the whole loop keeps, or on a model that the optimizer does not hold"
                .into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use traintrue_protocol::number::Number;

    use super::*;
    use crate::invariants::recorded::testing::{micro_batches, *};
    use crate::testing::{breaks, judge};

    #[rstest]
    #[case::all(|_| 0.0, true)]
    #[case::all_but_one(|step| f64::from(step == 5), false)]
    fn gradients_that_are_0_in_every_update_break(#[case] norm: fn(u64) -> f64, #[case] breaks: bool) {
        let mut events = clean(Shape::default());
        updates(&mut events).for_each(|it| it.grad_norm = Some(Number(norm(it.step))));
        let broken = judge(RULE.name, &events).broken;
        assert_eq!(broken.is_some_and(|it| it.cause.contains("every gradient is exactly 0")), breaks);
    }

    /// Three epochs of the same batches, with these losses.
    fn trained(loss: fn(&MicroBatch) -> f64, samples: fn(&MicroBatch) -> u64) -> Vec<Event> {
        let mut events = clean(Shape::default());
        for it in micro_batches(&mut events) {
            it.samples = Some(vec![samples(it)]);
            it.losses[0].sum = Number(loss(it) * it.losses[0].weight.0);
            it.backward = Some(Number(loss(it)));
        }
        events
    }

    fn by_index(it: &MicroBatch) -> f64 {
        2.0 + it.index as f64
    }

    /// A number for every two micro-batches.
    fn pair(it: &MicroBatch) -> u64 {
        it.epoch * 100 + it.index / 2
    }

    #[rstest]
    #[case::falls(trained(|it| by_index(it) - 0.1 * it.epoch as f64, |it| it.index))]
    #[case::barely(trained(|it| by_index(it) + 1e-5 * it.epoch as f64, |it| it.index))]
    #[case::too_small_a_rate({
        let mut events = trained(by_index, |it| it.index);
        updates(&mut events).for_each(|it| it.lr = vec![Number(1e-9)]);
        events
    })]
    #[case::a_part_of_the_loss_is_constant({
        let mut events = trained(by_index, |it| it.index);
        micro_batches(&mut events).for_each(|it| it.backward = Some(Number(2.0 + it.index as f64 - 0.1 * it.epoch as f64)));
        events
    })]
    #[case::nothing_left(trained(|_| 0.0, |it| it.index))]
    #[case::the_same_batch_twice_before_an_update(trained(|it| 1.0 + pair(it) as f64, pair))]
    fn what_right_loops_do_is_no_accusation(#[case] events: Vec<Event>) {
        let sheet = judge(RULE.name, &events);
        assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
    }

    #[rstest]
    #[case::batches(trained(by_index, |it| it.index), "each of 20 batches that came again")]
    #[case::epochs(trained(|it| 2.0 + ((it.index + it.epoch) % 10) as f64, |it| 100 * it.epoch + it.index), "each of 3 epochs, on average")]
    fn losses_that_the_updates_do_not_change_break(#[case] events: Vec<Event>, #[case] actual: &str) {
        let sheet = judge(RULE.name, &events);
        let broken = sheet.broken.as_ref().expect("it is broken");
        assert!(broken.actual.contains(actual), "{}", broken.actual);
        breaks(sheet, "optimizer");
    }
}
