//! What is wrong with a schedule, by how it is stepped and where it ends.

use std::collections::BTreeMap;

use traintrue_protocol::number::Number;
use traintrue_protocol::trace::Line;
use traintrue_protocol::vocabulary::Component;

use super::Seen;
use super::followed::Followed;
use crate::finding::Difference;

/// Two lengths that differ by less than this share count the same thing: loops round epochs up or down.
const SAME: f64 = 0.05;
/// Fewer updates do not show how a scheduler is stepped.
const LEAST: u64 = 3;

/// A run of one optimizer, over.
pub(super) struct Run<'a> {
    pub(super) seen: &'a Seen,
    /// Whole epochs, by their micro-batches.
    pub(super) epochs: &'a BTreeMap<u64, u64>,
    /// The rate that schedulers multiply, where the groups share one.
    pub(super) peak: Option<f64>,
    /// Whether the script came to its end by itself.
    pub(super) done: bool,
}

type Fault<'a> = Option<(&'a Line, Difference)>;

fn near(one: u64, other: u64) -> bool {
    one.abs_diff(other) as f64 <= SAME * one.max(other) as f64
}

fn difference(expected: String, actual: String, cause: String) -> Difference {
    Difference { expected, actual, component: Component::Schedule, cause }
}

impl<'a> Run<'a> {
    /// The first of the known faults, the most specific first.
    pub(super) fn fault(&self, it: &'a Followed) -> Fault<'a> {
        let first = self.seen.first.as_ref()?;
        let at_first = |fault: Option<Difference>| fault.map(|difference| (first, difference));
        at_first(self.per_micro_batch(it))
            .or_else(|| self.past_its_end(it))
            .or_else(|| at_first(self.too_long(it)))
            .or_else(|| at_first(self.never_stepped(it)))
            .or_else(|| at_first(self.too_early(it)))
    }

    /// The rate is 0 to the end, whatever sets it.
    pub(super) fn dead(&self) -> Fault<'a> {
        let Seen { updates, ref dead, .. } = *self.seen;
        // A few updates at the end may be what rounding leaves of an epoch.
        let line = dead.at_least(LEAST).filter(|_| dead.times as f64 > SAME * updates as f64)?;
        let alive = updates.checked_sub(dead.times).filter(|&alive| alive > 0)?;
        let window = self.seen.windows.usual().filter(|&window| window > 1);
        let at_each =
            self.seen.schedulers.iter().any(|it| window.is_some() && it.per_update.usual() == window);
        let why =
            if at_each { "; scheduler.step() runs at every micro-batch, and not per update" } else { "" };
        let cause = format!(
            "the rate is 0 from update {} on: the last {} of {updates} updates change nothing{why}",
            alive + 1,
            dead.times
        );
        let expected = format!("a schedule as long as the run: {updates} updates");
        Some((line, difference(expected, format!("a rate of 0 after {alive}"), cause)))
    }

    fn per_micro_batch(&self, it: &Followed) -> Option<Difference> {
        let (updates, length) = (self.seen.updates, it.length?);
        let window = self.seen.windows.usual().filter(|&window| window > 1)?;
        let is_meant = near(length, self.seen.micro_batches);
        let ends_early = it.last > length || near(length, updates);
        (it.per_update.usual() == Some(window) && !is_meant && ends_early).then(|| {
            difference(
                format!("one step of {} per update", it.words()),
                format!("{window} steps per update, {} before the last of {updates} updates", it.last),
                format!(
                    "scheduler.step() runs at every micro-batch: the schedule ends at update {}, and the run makes {updates}",
                    length.div_ceil(window)
                ),
            )
        })
    }

    fn past_its_end(&self, it: &'a Followed) -> Fault<'a> {
        let length = it.length.filter(|_| !it.is_warm_up())?;
        let (updates, argument) = (self.seen.updates, it.argument());
        let per_update = it.per_update.usual() == Some(1);
        let whole: u64 = self.epochs.values().sum();
        let counts_epochs = per_update && whole >= 2 && length == whole && updates > whole;
        let expected = || format!("a schedule as long as the run: {} steps", it.last.saturating_add(1));
        let steps = if per_update { "update" } else { "step" };
        if let Some(line) = it.rises.at_least(1) {
            // Two cosines or more may be meant as cycles.
            let may_be_cycles = it.last >= length.saturating_mul(2) && !counts_epochs;
            return (!may_be_cycles).then(|| {
                let cause = match counts_epochs {
                    true => format!(
                        "{argument} {length} is the number of epochs, and scheduler.step() runs per update: {argument} \
                         should be {updates}"
                    ),
                    false => format!(
                        "the schedule ends at {steps} {length}, and the rate rises again after it: {argument} should be {}",
                        it.last.saturating_add(1)
                    ),
                };
                (line, difference(expected(), it.words(), cause))
            });
        }
        let line = it.zeros.first.as_ref()?;
        let window = self.seen.windows.usual().filter(|&window| window > 1);
        let whole_windows =
            window.map(|window| self.epochs.iter().map(|(all, times)| all / window * times).sum::<u64>());
        // One update at a rate of 0 may be meant, unless the length shows where it comes from.
        let cause = if whole_windows == Some(length) && updates > length {
            format!(
                "{argument} {length} counts {whole} epochs of whole windows, and windows carry over from one epoch to the \
                 next: the run makes {updates} updates"
            )
        } else if it.zeros.times >= 2 {
            format!(
                "the schedule ends at {steps} {length}, and the rate is 0 from there on: {argument} should be {}",
                it.last.saturating_add(1)
            )
        } else {
            return None;
        };
        Some((
            line,
            difference(
                expected(),
                format!("{}: {} updates at a rate of 0", it.words(), it.zeros.times),
                cause,
            ),
        ))
    }

    fn too_long(&self, it: &Followed) -> Option<Difference> {
        let length = it.length.filter(|_| self.done && !it.is_warm_up())?;
        let Seen { updates, micro_batches, epochs, rate, highest, .. } = *self.seen;
        let left = format!("{} of {} at the last update", Number(rate), Number(highest));
        let counts_micro_batches =
            near(length, micro_batches) && micro_batches.saturating_mul(2) >= 3 * updates;
        if it.per_update.usual() == Some(1) && counts_micro_batches && updates >= LEAST {
            return Some(difference(
                format!("a schedule as long as the run: {updates} updates"),
                format!("{}: the rate is {left}", it.words()),
                format!(
                    "{} {length} counts micro-batches, and scheduler.step() runs once per update: divide it by the \
                     accumulation",
                    it.argument()
                ),
            ));
        }
        let per_epoch =
            epochs >= 1 && it.last <= epochs && it.last >= 1 && it.last.saturating_mul(2) < updates;
        let counts_updates = near(length, updates) || near(length, micro_batches);
        (per_epoch && counts_updates && length / 2 > it.last).then(|| {
            difference(
                format!("{length} steps of {}", it.words()),
                format!("{} before the last update: the rate is {left}", it.last),
                format!(
                    "{} {length} counts updates, and scheduler.step() runs once per epoch: step it per update, or give it the \
                     number of epochs",
                    it.argument()
                ),
            )
        })
    }

    fn never_stepped(&self, it: &Followed) -> Option<Difference> {
        let Seen { updates, epochs, ref schedulers, changes, .. } = *self.seen;
        let still = !changes && schedulers.iter().all(|it| it.last == 0);
        // A schedule per epoch is not stepped before the first epoch's last update.
        let is_over = it.length.is_some_and(|length| {
            near(length, updates) || (length <= updates && length.saturating_mul(2) >= updates)
        });
        let is_due = epochs >= 1 || is_over;
        (self.done && still && is_due && updates >= LEAST && !it.is_stepped_by_metrics()).then(|| {
            difference(
                format!("steps of {}", it.words()),
                format!("none in {updates} updates: the rate stays at {}", Number(self.seen.rate)),
                "the scheduler is made, and scheduler.step() never runs".into(),
            )
        })
    }

    fn too_early(&self, it: &Followed) -> Option<Difference> {
        let peak = self.peak?;
        let per_update = it.per_update.usual().is_some_and(|steps| steps < 2);
        let skipped = it.first == 1 && self.seen.first_rate < peak * (1.0 - 1e-9);
        (per_update && skipped && !self.seen.loaded && it.begins_at_the_peak()).then(|| {
            difference(
                format!("the first update at {}", Number(peak)),
                format!("at {}: {} was stepped before it", Number(self.seen.first_rate), it.words()),
                "scheduler.step() runs before the first optimizer.step(): the first value of the schedule is skipped".into(),
            )
        })
    }
}
