//! `loop/schedule`: a learning-rate schedule is stepped as its length counts, and ends with the run.

mod faults;
mod followed;

use std::collections::BTreeMap;

use traintrue_protocol::trace::event::{Edge, Epoch, MicroBatch, Update};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};

use self::followed::Followed;
use super::seen::{Counted, Optimizers, Sightings, is_done, number};
use crate::finding::Sheet;
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

pub(crate) static RULE: Rule = Rule {
    name: "loop/schedule",
    says: "a learning-rate schedule is stepped as its length counts, and ends with the run",
    verifies: "A scheduler whose length is known is stepped as often as it counts: per update, per micro-batch or per \
               epoch. It does not end long before the last update, or long after it. A scheduler that is made is \
               stepped. It is not stepped before the first update. Whoever sets the rate, it is not 0 for the last \
               updates of the run.",
    does_not_verify: "The form of the curve (schedule/closed-form, for a declared schedule). The length of schedules \
                      that have none, and of runs that were interrupted. Rates that the loop sets by itself.",
    kind: Kind::Trace(|opening| Box::new(Schedules::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Schedule,
    needs: &[Fact::Observed],
};

struct Schedules {
    optimizers: Optimizers,
    /// The rate before any schedule, where the groups share one.
    peak: Option<f64>,
    open: BTreeMap<u64, Seen>,
    epochs: Epochs,
}

/// The epochs of all loaders.
#[derive(Default)]
struct Epochs {
    /// Micro-batches since each loader was begun.
    open: BTreeMap<u64, u64>,
    /// Whole epochs, by their micro-batches.
    whole: BTreeMap<u64, u64>,
}

/// One optimizer's updates and schedulers. Skipped updates count only with their micro-batches.
#[derive(Default)]
struct Seen {
    first: Option<Line>,
    first_rate: f64,
    updates: u64,
    micro_batches: u64,
    windows: Counted,
    /// Epochs that ended before the last update.
    epochs: u64,
    schedulers: Vec<Followed>,
    rate: f64,
    highest: f64,
    changes: bool,
    loaded: bool,
    /// The last updates, if their rate is 0.
    dead: Sightings,
}

fn rate(it: &Update) -> Option<f64> {
    it.lr.iter().map(|lr| lr.0).reduce(f64::max)
}

impl Schedules {
    fn new(opening: &Opening) -> Self {
        Self {
            optimizers: Optimizers::of(opening),
            peak: opening.recorded.and_then(|it| it.lr),
            open: BTreeMap::new(),
            epochs: Epochs::default(),
        }
    }

    fn update(&mut self, it: &Update, line: &Line, sheet: &mut Sheet) {
        let Some(since) = it.since.as_deref() else { return sheet.missing("since of an update") };
        let Some(rate) = rate(it) else { return sheet.missing("lr of an update") };
        let seen = self.open.entry(number(it)).or_default();
        seen.micro_batches = seen.micro_batches.saturating_add(since.micro_batches);
        seen.loaded |= since.loaded;
        if !it.applied {
            return;
        }
        if seen.first.is_none() {
            (seen.first, seen.first_rate, seen.rate) = (Some(line.clone()), rate, rate);
        }
        seen.updates += 1;
        seen.windows.add(since.micro_batches);
        seen.epochs = self.epochs.whole.values().sum();
        seen.changes |= rate != seen.rate;
        for (at, scheduled) in since.schedules.iter().enumerate() {
            match seen.schedulers.get_mut(at).filter(|it| it.name == scheduled.name) {
                Some(followed) => followed.update(scheduled, rate, seen.rate, line),
                None => {
                    seen.schedulers.truncate(at);
                    seen.schedulers.push(Followed::new(scheduled));
                }
            }
        }
        (seen.rate, seen.highest) = (rate, seen.highest.max(rate));
        match rate == 0.0 {
            true => seen.dead.add(line),
            false => seen.dead = Sightings::default(),
        }
    }

    fn finish_one(&self, optimizer: u64, seen: &Seen, done: bool, sheet: &mut Sheet) {
        let of = self.optimizers.suffix(optimizer);
        let run = faults::Run { seen, epochs: &self.epochs.whole, peak: self.peak, done };
        // Where another optimizer goes on, a rate of 0 may be how this one is left as it is.
        let dead = || run.dead().filter(|_| self.open.values().all(|it| it.dead.times > 0));
        if seen.schedulers.is_empty() {
            if let Some((line, difference)) = dead() {
                sheet.check(false, line, || difference);
                return;
            }
            return match seen.changes {
                true => {
                    sheet.cannot(&format!("the learning rate{of}: it changes without a scheduler of torch"))
                }
                false => sheet.compared += seen.updates,
            };
        }
        for it in &seen.schedulers {
            sheet.observe(format!("{}{of}", it.words()));
            if let Some((line, difference)) = run.fault(it).or_else(dead) {
                sheet.check(false, line, || difference);
            } else if it.length.is_some() || it.is_warm_up() {
                sheet.compared += seen.updates;
            } else {
                sheet.cannot(&format!("the end of the schedule{of}: {} has no length", it.name));
            }
        }
    }
}

impl Epochs {
    fn micro_batch(&mut self, it: &MicroBatch) {
        if let Some(loader) = it.loader {
            *self.open.entry(loader).or_default() += 1;
        }
    }

    fn edge(&mut self, it: Epoch) {
        let Some(trained) = it.loader.and_then(|loader| self.open.insert(loader, 0)) else { return };
        if it.edge == Edge::End && trained > 0 {
            *self.whole.entry(trained).or_default() += 1;
        }
    }
}

impl TraceRule for Schedules {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        match &line.event {
            Event::MicroBatch(it) => self.epochs.micro_batch(it),
            Event::Epoch(it) => self.epochs.edge(*it),
            Event::Update(it) => self.update(it, line, sheet),
            _ => {}
        }
    }

    fn finish(&mut self, last: &Line, sheet: &mut Sheet) {
        for (&optimizer, seen) in &self.open {
            self.finish_one(optimizer, seen, is_done(last), sheet);
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use traintrue_protocol::number::Number;
    use traintrue_protocol::trace::event::EndReason;
    use traintrue_protocol::trace::since::Scheduled;

    use super::*;
    use crate::invariants::recorded::testing::*;
    use crate::testing::{breaks, judge};

    const PEAK: f64 = 1e-2;

    /// Half a cosine down to 0 after so many steps, and up again after them.
    fn cosine(steps: u64, length: u64) -> f64 {
        PEAK * (1.0 + (std::f64::consts::PI * steps as f64 / length as f64).cos()) / 2.0
    }

    fn linear(steps: u64, length: u64) -> f64 {
        PEAK * (1.0 - steps as f64 / length as f64).max(0.0)
    }

    fn constant(_steps: u64, _length: u64) -> f64 {
        PEAK
    }

    struct Given {
        name: &'static str,
        length: Option<u64>,
        /// Its steps before an update: by the update, from 1, and by the epochs that ended before it.
        steps: fn(u64, u64) -> u64,
        rate: fn(u64, u64) -> f64,
    }

    const COSINE: Given =
        Given { name: "CosineAnnealingLR", length: Some(9), steps: |update, _| update - 1, rate: cosine };

    /// Nine updates of 4, 4 and 2 micro-batches in three epochs, scheduled as given.
    fn scheduled(given: Given) -> Vec<Event> {
        of(Shape::default(), given)
    }

    fn of(shape: Shape, given: Given) -> Vec<Event> {
        let mut events = clean(shape);
        let per_epoch = shape.batches.div_ceil(shape.window);
        for it in updates(&mut events) {
            let steps = (given.steps)(it.step, (it.step - 1) / per_epoch);
            it.lr = vec![Number((given.rate)(steps, given.length.unwrap_or(1)))];
            let argument = Some("T_max".to_owned());
            let name = given.name.into();
            since(it).schedules =
                vec![Scheduled { name, steps, length: given.length, argument, warmup: None }];
        }
        events
    }

    fn interrupted(mut events: Vec<Event>) -> Vec<Event> {
        events.pop();
        events.push(end(EndReason::Stopped));
        events
    }

    #[rstest]
    #[case::per_update(scheduled(COSINE))]
    #[case::to_zero_at_the_last_update(scheduled(Given { length: Some(8), ..COSINE }))]
    #[case::per_epoch(scheduled(Given { length: Some(3), steps: |_, epochs| epochs, ..COSINE }))]
    #[case::per_micro_batch_and_as_long(of(Shape { batches: 12, ..Shape::default() },
        Given { length: Some(36), steps: |update, _| 4 * (update - 1), ..COSINE }))]
    #[case::to_zero_without_a_length(scheduled(Given { name: "LambdaLR", length: None, rate: |steps, _| linear(steps, 8), ..COSINE }))]
    #[case::many_cycles(scheduled(Given { length: Some(2), ..COSINE }))]
    #[case::no_length(scheduled(Given { name: "StepLR", length: None, rate: constant, ..COSINE }))]
    #[case::by_metrics(scheduled(Given { name: "ReduceLROnPlateau", length: None, steps: |_, _| 0, rate: constant }))]
    #[case::a_short_warm_up(scheduled(Given { name: "LinearLR", length: Some(3), rate: |steps, _| PEAK * (1 + steps.min(3)) as f64,
        ..COSINE }))]
    #[case::a_warm_up_longer_than_the_run(scheduled(Given { name: "LambdaLR", length: Some(3),
        rate: |steps, _| PEAK * (1 + steps) as f64, ..COSINE }))]
    #[case::interrupted(interrupted(scheduled(Given { length: Some(30), ..COSINE })))]
    #[case::longer_for_another_reason(scheduled(Given { length: Some(100), ..COSINE }))]
    #[case::one_epoch_of_a_schedule_per_epoch(of(Shape { epochs: 1, ..Shape::default() },
        Given { name: "StepLR", length: None, steps: |_, _| 0, rate: constant }))]
    fn what_right_loops_do_is_no_accusation(#[case] events: Vec<Event>) {
        let sheet = judge(RULE.name, &events);
        assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
    }

    #[rstest]
    #[case::per_micro_batch(of(Shape { batches: 12, ..Shape::default() },
        Given { steps: |update, _| 4 * (update - 1), ..COSINE }), "scheduler.step() runs at every micro-batch")]
    #[case::rises_again(scheduled(Given { length: Some(6), ..COSINE }), "T_max should be 9")]
    #[case::epochs_for_updates(of(Shape { epochs: 2, ..Shape::default() }, Given { length: Some(2), ..COSINE }),
        "T_max 2 is the number of epochs")]
    #[case::at_zero(scheduled(Given { length: Some(6), rate: linear, ..COSINE }), "the rate is 0 from there on")]
    #[case::counts_micro_batches(scheduled(Given { length: Some(30), ..COSINE }), "counts micro-batches")]
    #[case::updates_for_epochs(scheduled(Given { length: Some(9), steps: |_, epochs| epochs, ..COSINE }),
        "scheduler.step() runs once per epoch")]
    #[case::at_zero_without_a_length(scheduled(Given { name: "LambdaLR", length: None, rate: |steps, _| linear(steps, 6), ..COSINE }),
        "the rate is 0 from update 7 on: the last 3 of 9 updates change nothing")]
    #[case::at_zero_for_each_micro_batch(of(Shape { batches: 12, ..Shape::default() }, Given { name: "LambdaLR", length: None,
        steps: |update, _| 4 * (update - 1), rate: |steps, _| linear(steps, 9) }), "scheduler.step() runs at every micro-batch")]
    #[case::never_stepped(scheduled(Given { steps: |_, _| 0, rate: constant, ..COSINE }), "never runs")]
    #[case::before_the_first_update(scheduled(Given { length: Some(10), steps: |update, _| update, ..COSINE }),
        "before the first optimizer.step()")]
    fn a_wrong_schedule_breaks(#[case] events: Vec<Event>, #[case] cause: &str) {
        let found = breaks(judge(RULE.name, &events), "schedule");
        assert!(found.contains(cause), "{found}");
    }

    #[test]
    fn windows_that_carry_over_epochs_make_more_updates_than_whole_windows_per_epoch() {
        let shape = Shape { epochs: 2, tail: traintrue_protocol::contract::Tail::Carry, ..Shape::default() };
        // 2 whole windows in each of 2 epochs, and a fifth over the epochs' edge.
        let events = of(shape, Given { length: Some(4), rate: linear, ..COSINE });
        let found = breaks(judge(RULE.name, &events), "schedule");
        assert!(found.contains("2 epochs of whole windows"), "{found}");
    }
}
