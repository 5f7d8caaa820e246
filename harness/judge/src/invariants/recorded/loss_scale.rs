//! `loop/loss-scale`: the losses of an accumulation window are averaged, not summed.

use traintrue_protocol::contract::Gradients;
use traintrue_protocol::number::Number;
use traintrue_protocol::trace::event::{MicroBatch, Update};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use super::seen::{Sightings, most};
use crate::finding::{Difference, Sheet};
use crate::invariants::shared::place;
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

/// Relative: what backward() was called on is the loss itself, rounded at most once more in f32.
const SAME: f64 = 1e-4;
/// Relative: the division by the window rounds in the format of the loss, which may be bf16.
const DIVIDED: f64 = 1e-2;
/// A longer window is not followed: its micro-batches are held in memory.
const WINDOW_MOST: usize = 1 << 16;

pub(crate) static RULE: Rule = Rule {
    name: "loop/loss-scale",
    says: "the gradient of an accumulation window is the mean over its micro-batches, not their sum",
    verifies: "In windows of several micro-batches, what backward() is called on is compared with the mean loss that \
               the loss function gave, and with what the loop does to the gradients before the step: divided by the \
               window, weighted by tokens or samples, or not divided.",
    does_not_verify: "Loops whose backward() is called on something else than one loss function's mean. Windows whose \
                      micro-batches share a batch or come from different loaders, as in GANs, adversarial training and \
                      training on several tasks.",
    kind: Kind::Trace(|opening| Box::new(LossScale::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Loss,
    needs: &[Fact::Observed],
};

struct LossScale {
    /// Whether a sum is what the user declares.
    is_sum_meant: bool,
    accumulation: Option<u64>,
    optimizers: usize,
    window: Vec<Backward>,
    /// Why the open window cannot be judged.
    unjudged: Option<&'static str>,
    longest: u64,
    summed: Sightings,
    /// The window of the first, for the finding.
    first: Option<(u64, f64)>,
    judged: u64,
    other: u64,
    /// Windows whose losses are divided by one whole number that is more than their micro-batches, and that number.
    unfilled: (u64, Option<u64>),
    /// Windows in which the gradients were not measured after the last backward pass: a recorder measures some.
    unmeasured: u64,
}

/// One micro-batch: its loss, and what backward() was called on.
struct Backward {
    value: f64,
    sum: f64,
    weight: f64,
    batch: (Option<u64>, u64, u64),
    samples: Vec<u64>,
}

impl Backward {
    fn mean(&self) -> f64 {
        self.sum / self.weight
    }
}

fn near(found: f64, expected: f64, tolerance: f64) -> bool {
    (found - expected).abs() <= tolerance * expected.abs()
}

impl LossScale {
    fn new(opening: &Opening) -> Self {
        Self {
            is_sum_meant: opening.contract.gradients == Gradients::Sum,
            accumulation: opening.recorded.and_then(|it| it.accumulation),
            optimizers: opening.recorded.map_or(1, |it| it.optimizers.len()),
            window: Vec::new(),
            unjudged: None,
            longest: 0,
            summed: Sightings::default(),
            first: None,
            judged: 0,
            other: 0,
            unfilled: (0, None),
            unmeasured: 0,
        }
    }

    fn micro_batch(&mut self, it: &MicroBatch) {
        match self.backward(it) {
            Ok(backward) => self.window.push(backward),
            Err(why) => self.unjudged = Some(why),
        }
    }

    fn backward(&self, it: &MicroBatch) -> Result<Backward, &'static str> {
        if !it.optimizers.is_empty() && it.optimizers.len() < self.optimizers {
            return Err("some micro-batches train only some of the optimizers' parameters");
        }
        if self.window.len() >= WINDOW_MOST {
            return Err("a window has too many micro-batches");
        }
        let [loss] = it.losses.as_slice() else {
            return Err("the loss of some micro-batches is none, or several, that the recorder saw");
        };
        let value = it.backward.filter(|value| value.is_finite());
        let value = value.ok_or("what backward() was called on is not one finite number")?;
        if !(loss.sum.is_finite() && loss.weight.0 > 0.0) {
            return Err("some losses are not finite, or are means over nothing");
        }
        Ok(Backward {
            value: value.0,
            sum: loss.sum.0,
            weight: loss.weight.0,
            batch: (it.loader, it.epoch, it.index),
            samples: it.samples.clone().unwrap_or_default(),
        })
    }

    fn update(&mut self, it: &Update, line: &Line, sheet: &mut Sheet) {
        let window = std::mem::take(&mut self.window);
        let unjudged = self.unjudged.take();
        let count = window.len() as u64;
        self.longest = self.longest.max(count);
        // The second of two optimizers that step together has nothing of its own.
        if count < 2 && unjudged.is_none() || !it.applied {
            return;
        }
        let result = match (unjudged, &it.since) {
            (Some(why), _) => Err(why),
            (None, Some(since)) if it.micro_batches == Some(count) && since.micro_batches == count => {
                let Some(rescaled) = since.rescaled else {
                    self.unmeasured += 1;
                    return;
                };
                Ok(rescaled.0)
            }
            (None, _) => Err("some gradients are not of the micro-batches since the last update"),
        };
        let scale = match result.and_then(|scale| comparable(&window).map(|()| scale)) {
            Ok(scale) => scale,
            Err(why) => return sheet.cannot(&format!("whether losses are divided by the window: {why}")),
        };
        self.judged += 1;
        let means = || window.iter().filter(|it| it.mean() != 0.0);
        if means().count() == 0 {
            self.other += 1;
        } else if near(scale, 1.0, SAME) && means().all(|it| near(it.value, it.mean(), SAME)) {
            self.summed.add(line);
            self.first.get_or_insert_with(|| (count, window.iter().map(|it| it.value).sum()));
        } else if self.is_mean(&window, scale) {
            sheet.compared += 1;
        } else {
            self.other += 1;
            let by = more_than(&window, scale);
            if by.is_some() && self.unfilled.1.is_none_or(|known| Some(known) == by) {
                self.unfilled = (self.unfilled.0 + 1, by);
            }
        }
    }

    /// Whether the window's backward values add up to a mean: of its micro-batches' means, or over what they count.
    fn is_mean(&self, window: &[Backward], scale: f64) -> bool {
        let count = window.len() as u64;
        let total = window.iter().map(|it| it.value).sum::<f64>() * scale;
        let means: f64 = window.iter().map(Backward::mean).sum();
        let (sums, weights) =
            window.iter().fold((0.0, 0.0), |(sum, all), it| (sum + it.sum, all + it.weight));
        // The loop may divide an epoch's last, shorter window by the whole accumulation.
        let divisors = [Some(count), Some(self.longest), self.accumulation];
        near(total, sums / weights, DIVIDED)
            || divisors.into_iter().flatten().any(|by| near(total, means / by as f64, DIVIDED))
    }
}

/// The whole number that the losses of a window are divided by, where it is more than the window has.
fn more_than(window: &[Backward], scale: f64) -> Option<u64> {
    let total = window.iter().map(|it| it.value).sum::<f64>() * scale;
    let by = window.iter().map(Backward::mean).sum::<f64>() / total;
    let whole = by.round();
    (whole > window.len() as f64 && whole <= WINDOW_MOST as f64 && near(by, whole, SAME))
        .then_some(whole as u64)
}

/// Whether the micro-batches of a window are parts of one larger batch.
fn comparable(window: &[Backward]) -> Result<(), &'static str> {
    let loader = |it: &Backward| it.batch.0;
    if window.windows(2).any(|pair| loader(&pair[0]) != loader(&pair[1])) {
        return Err("the micro-batches of a window come from different loaders");
    }
    let shared = |(at, one): (usize, &Backward)| {
        let same = |other: &Backward| match loader(one) {
            Some(_) => other.batch == one.batch,
            None => !one.samples.is_empty() && other.samples == one.samples,
        };
        // Passes over one batch come one after the other.
        at > 0 && same(&window[at - 1])
    };
    match window.iter().enumerate().any(shared) {
        true => Err("several micro-batches of a window are of one batch"),
        false => Ok(()),
    }
}

impl TraceRule for LossScale {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        match &line.event {
            Event::MicroBatch(it) => self.micro_batch(it),
            Event::Update(it) => self.update(it, line, sheet),
            _ => {}
        }
    }

    fn finish(&mut self, _last: &Line, sheet: &mut Sheet) {
        if let (windows, Some(by)) = self.unfilled
            && windows == self.judged
            && by > self.longest
        {
            sheet.remark(format!(
                "no window was ever full: losses are divided by {by}, and the longest of {windows} windows has {}; each \
                 update is that part of a mean",
                place::micro_batches(self.longest)
            ));
        } else if self.other > 0 {
            sheet.cannot(&format!(
                "whether losses are divided by the window, in {} of {} windows: what backward() is called on is neither \
                 the loss nor a share of it",
                self.other, self.judged
            ));
        }
        if self.judged == 0 && self.unmeasured > 0 {
            sheet.cannot(
                "whether losses are divided by the window: what changed the gradients before the step was not measured",
            );
        }
        let least = if self.accumulation.is_some() { 1 } else { 2 };
        let (Some(line), Some((count, total))) = (self.summed.at_least(least), self.first) else { return };
        if self.is_sum_meant || !most(self.summed.times, self.judged) {
            return;
        }
        sheet.check(false, line, || Difference {
            expected: format!("losses divided by the {count} micro-batches of the window: {} in all", Number(total / count as f64)),
            actual: format!("{} in all, in {} of {} windows", Number(total), self.summed.times, self.judged),
            component: Component::Normaliser,
            cause: format!(
                "summed, not averaged: backward() is called on the loss of each micro-batch, which is not divided by the \
                 {count} micro-batches of the window, and the gradients are not divided later"
            ),
        });
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use traintrue_protocol::trace::event::Loss;

    use super::*;
    use crate::invariants::recorded::testing::*;
    use crate::testing::{breaks, judge};

    fn changed(change: fn(&mut MicroBatch)) -> Vec<Event> {
        let mut events = clean(Shape::default());
        micro_batches(&mut events).for_each(change);
        events
    }

    fn mean(it: &MicroBatch) -> f64 {
        it.losses[0].sum.0 / it.losses[0].weight.0
    }

    fn summed(it: &mut MicroBatch) {
        it.backward = Some(Number(mean(it)));
    }

    fn then(mut events: Vec<Event>, change: fn(&mut Update)) -> Vec<Event> {
        updates(&mut events).for_each(change);
        events
    }

    /// Losses over 4 and 12 tokens in turn, of 32 per window.
    fn tokens(it: &mut MicroBatch, backward: fn(f64, f64) -> f64) {
        let (sum, weight) = (20.0 + it.index as f64, if it.index.is_multiple_of(2) { 4 } else { 12 });
        it.losses = vec![Loss::new("loss", sum, weight)];
        it.backward = Some(Number(backward(sum, weight as f64)));
    }

    #[rstest]
    #[case::divided(changed(|_| ()))]
    #[case::gradients_divided(then(changed(summed), |it| {
        since(it).rescaled = Some(Number(1.0 / it.micro_batches.unwrap() as f64));
    }))]
    #[case::by_tokens(changed(|it| tokens(it, |sum, _| sum / 32.0)))]
    #[case::mean_of_means(changed(|it| tokens(it, |sum, weight| sum / weight / 4.0)))]
    fn a_mean_holds(#[case] events: Vec<Event>) {
        let sheet = judge(RULE.name, &events);
        assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
        assert!(sheet.compared > 0, "{:?}", sheet.missing);
    }

    #[test]
    fn a_window_that_is_longer_than_the_epoch_is_remarked_upon() {
        let sheet = judge(RULE.name, &changed(|it| it.backward = Some(Number(mean(it) / 16.0))));
        assert!(sheet.broken.is_none() && sheet.missing.is_none(), "{sheet:?}");
        assert!(sheet.remarks[0].contains("divided by 16, and the longest of"), "{:?}", sheet.remarks);
    }

    #[rstest]
    #[case::adversarial(changed(|it| { summed(it); it.index /= 2; }))]
    #[case::two_tasks(changed(|it| { summed(it); it.loader = Some(it.index % 2); }))]
    #[case::two_losses(changed(|it| { summed(it); it.losses.push(Loss::new("other", 1.0, 1)); }))]
    #[case::scaled_by_the_batch(changed(|it| it.backward = Some(Number(16.0 * mean(it)))))]
    #[case::a_gan(gan(6))]
    #[case::not_measured(then(changed(summed), |it| since(it).rescaled = None))]
    #[case::one_micro_batch_per_update({
        let mut events = clean(Shape { window: 1, ..Shape::default() });
        micro_batches(&mut events).for_each(summed);
        events
    })]
    fn what_is_meant_otherwise_is_no_accusation(#[case] events: Vec<Event>) {
        let sheet = judge(RULE.name, &events);
        assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
    }

    #[rstest]
    #[case::means(changed(summed))]
    #[case::means_over_tokens(changed(|it| tokens(it, |sum, weight| sum / weight)))]
    #[case::without_a_loader(changed(|it| { summed(it); it.loader = None; }))]
    fn a_sum_breaks(#[case] events: Vec<Event>) {
        let found = breaks(judge(RULE.name, &events), "normaliser");
        assert!(found.contains("not divided by the 4 micro-batches"), "{found}");
    }
}
