//! `loop/window`: an update is made from the gradients of the micro-batches since the last one, and of as many as usual.

mod lengths;

use std::collections::BTreeMap;

use traintrue_protocol::trace::event::{Edge, MicroBatch, Update};
use traintrue_protocol::trace::recorded::{Fact, Recorded};
use traintrue_protocol::trace::since::Since;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use self::lengths::{Closed, Lengths};
use super::seen::{Counted, Optimizers, Sightings, most, number};
use crate::finding::{Difference, Sheet};
use crate::invariants::shared::place::micro_batches;
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

pub(crate) static RULE: Rule = Rule {
    name: "loop/window",
    says: "each optimizer step uses the gradients of exactly the micro-batches since the step before it",
    verifies: "No gradients of earlier updates are left in the buffers, and none are cleared before a step has used \
               them. Each window holds as many micro-batches as declared, or as three quarters of the windows do. \
               Windows at an epoch's end, after a load and at the end of the run may be shorter.",
    does_not_verify: "That the loss is divided by the window (loop/loss-scale). The intended number of micro-batches, \
                      if every window is equally wrong and nothing is declared. Windows whose sizes vary, as with a \
                      number of tokens per update.",
    kind: Kind::Trace(|opening| Box::new(Windows::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Window,
    needs: &[Fact::Observed],
};

struct Windows {
    optimizers: Optimizers,
    /// The accumulation that was declared or read, and by whom.
    accumulation: Option<(u64, &'static str)>,
    open: BTreeMap<u64, Open>,
    /// Whether an epoch has ended in the trace.
    epoch_ended: bool,
    /// The step of the last update that was skipped, by optimizer.
    skipped: BTreeMap<u64, u64>,
}

/// The windows of one optimizer.
#[derive(Default)]
struct Open {
    updates: u64,
    lengths: Lengths,
    cleared: Cleared,
    batches: Batches,
}

/// Gradients that were cleared before a step used them.
#[derive(Default)]
struct Cleared {
    windows: Sightings,
    /// Windows inside an epoch, with or without them.
    all: u64,
    micro_batches: u64,
    /// What is left in the windows in which an evaluation ran.
    evaluated: Counted,
    /// Micro-batches cleared where an epoch ended: a tail that the loop drops.
    tails: u64,
}

/// The batches of the open window, as far as one loader gave them.
#[derive(Default)]
struct Batches {
    first: Option<(Option<u64>, u64, u64)>,
    last: Option<(Option<u64>, u64, u64)>,
    trained: u64,
}

impl Batches {
    fn add(&mut self, it: &MicroBatch) {
        let place = (it.loader, it.epoch, it.index);
        // Two micro-batches on one drawn batch leave no gap.
        if self.last != Some(place) {
            self.trained += 1;
        }
        self.first.get_or_insert(place);
        self.last = Some(place);
    }

    /// Whether the loop drew batches in this window that it did not train.
    fn has_gap(&self) -> bool {
        match (self.first, self.last) {
            (Some((Some(loader), epoch, first)), Some((other, ended, last)))
                if Some(loader) == other && epoch == ended =>
            {
                last.saturating_sub(first) >= self.trained
            }
            _ => false,
        }
    }
}

impl Windows {
    fn new(opening: &Opening) -> Self {
        let source = |it: &Recorded| match it.read.contains_key("accumulation") {
            true => "read from the framework's settings",
            false => "declared",
        };
        let accumulation = opening.recorded.and_then(|it| Some((it.accumulation?, source(it))));
        Self {
            optimizers: Optimizers::of(opening),
            accumulation,
            open: BTreeMap::new(),
            epoch_ended: false,
            skipped: BTreeMap::new(),
        }
    }

    fn update(&mut self, it: &Update, line: &Line, sheet: &mut Sheet) {
        let Some(since) = it.since.as_deref() else { return sheet.missing("since of an update") };
        let Some(held) = it.micro_batches else { return sheet.missing("micro_batches of an update") };
        let optimizer = number(it);
        self.leftover(it, held, since, line, sheet);
        match it.applied {
            true => self.skipped.remove(&optimizer),
            false => self.skipped.insert(optimizer, it.step),
        };
        let first_epoch = !self.epoch_ended;
        let open = self.open.entry(optimizer).or_default();
        let batches = std::mem::take(&mut open.batches);
        open.updates += 1;
        if since.closure {
            return sheet
                .cannot("the windows of steps with a closure: the optimizer runs it as often as it needs");
        }
        let is_first = open.updates == 1;
        open.cleared.add(held, since, is_first, line);
        if held == 0 {
            return;
        }
        // The first epoch begins in the first window, and that is no reason for a shorter one.
        let at_edge = since.epoch_ended && !(is_first && first_epoch);
        let closed = Closed {
            held,
            excused: at_edge || (since.loaded && is_first) || batches.has_gap(),
            evaluated: since.evaluations > 0,
            after_first_batch: batches.last.is_some_and(|(.., index)| index == 0),
            loaded: since.loaded,
        };
        open.lengths.add(closed, line);
    }

    fn leftover(&self, it: &Update, held: u64, since: &Since, line: &Line, sheet: &mut Sheet) {
        let trained = since.micro_batches;
        sheet.check(held <= trained, line, || {
            let of = self.optimizers.suffix(number(it));
            Difference {
                expected: format!("the gradients of the {} since the last update{of}", micro_batches(trained)),
                actual: format!("the gradients of {}", micro_batches(held)),
                component: Component::Window,
                cause: match self.skipped.get(&number(it)) {
                    Some(step) => format!(
                        "the gradients of the skipped update {step} are still in the buffers: optimizer.zero_grad() \
                         must also run after a step that is skipped"
                    ),
                    None => "the gradients of earlier updates are still in the buffers: optimizer.zero_grad() is \
                             missing after optimizer.step()".into(),
                },
            }
        });
    }

    fn finish_one(&self, optimizer: u64, open: &Open, accumulation: Option<(u64, &str)>, sheet: &mut Sheet) {
        let of = self.optimizers.suffix(optimizer);
        match self.optimizers.with_own_gradients() {
            Some(class) if open.cleared.windows.times > 0 => {
                sheet.cannot(&format!("gradients cleared before a step: {class} uses them by itself"));
            }
            _ => open.cleared.judge(open, &of, sheet),
        }
        open.lengths.judge(accumulation, &of, sheet);
    }
}

impl Cleared {
    fn add(&mut self, held: u64, since: &Since, is_first: bool, line: &Line) {
        if since.epoch_ended && !is_first {
            self.tails += since.unused;
            return;
        }
        self.all += 1;
        if since.unused == 0 {
            return;
        }
        self.windows.add(line);
        self.micro_batches += since.unused;
        if since.evaluations > 0 {
            self.evaluated.add(held);
        }
    }

    fn judge(&self, open: &Open, of: &str, sheet: &mut Sheet) {
        let times = self.windows.times;
        let always = times >= 2 && most(times, self.all);
        // Gradients of an evaluation's own are cleared after it, as those of pictures are. The window is then as long as usual.
        let left = self.evaluated.range().map(|(_, most)| most);
        let is_shorter = left.zip(open.lengths.usual()).is_some_and(|(left, usual)| left < usual);
        let in_evaluation = self.evaluated.all() == times && is_shorter;
        if let Some(line) = self.windows.at_least(2).filter(|_| always || in_evaluation) {
            sheet.check(false, line, || of_cleared(line, always, of));
            return;
        }
        if times > 0 {
            sheet.remark(format!(
                "the gradients of {} were cleared without a step{of}, in {times} of {} windows",
                micro_batches(self.micro_batches),
                self.all
            ));
        }
        if self.tails > 0 {
            sheet.remark(format!(
                "the loop drops {} at epochs' ends: no step used their gradients{of}",
                micro_batches(self.tails)
            ));
        }
    }
}

fn of_cleared(line: &Line, always: bool, of: &str) -> Difference {
    let (step, held, trained) = match &line.event {
        Event::Update(it) => {
            let trained = it.since.as_ref().map_or(0, |since| since.micro_batches);
            (it.step, it.micro_batches.unwrap_or(0), trained)
        }
        _ => (0, 0, 0),
    };
    Difference {
        expected: format!("the gradients of {} in update {step}{of}", micro_batches(trained)),
        actual: format!("the gradients of {}", micro_batches(held)),
        component: Component::Window,
        cause: match (held, always) {
            (0, _) => {
                "optimizer.step() runs without gradients: zero_grad() runs between backward() and step()"
                    .into()
            }
            (_, true) => format!(
                "zero_grad() clears the gradients of {} before a step uses them: it must run once per update, after \
                 optimizer.step()",
                micro_batches(trained.saturating_sub(held))
            ),
            (_, false) => {
                "the evaluation clears the gradients of the open window: zero_grad() runs in it".into()
            }
        },
    }
}

impl TraceRule for Windows {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        match &line.event {
            Event::MicroBatch(it) if it.optimizers.is_empty() => {
                self.open.values_mut().for_each(|open| open.batches.add(it));
            }
            Event::MicroBatch(it) => {
                for &optimizer in &it.optimizers {
                    self.open.entry(optimizer).or_default().batches.add(it);
                }
            }
            Event::Update(it) => self.update(it, line, sheet),
            Event::Epoch(it) => self.epoch_ended |= it.edge == Edge::End,
            _ => {}
        }
    }

    fn finish(&mut self, _last: &Line, sheet: &mut Sheet) {
        let made = || self.open.iter().filter(|(_, open)| open.updates > 0);
        sheet.count("updates", made().map(|(_, open)| open.updates).sum());
        sheet.count("optimizers", made().count() as u64);
        let mut usual = made().filter_map(|(_, open)| open.lengths.usual());
        let first = usual.next();
        // Two optimizers with windows of their own, as in a GAN: one accumulation cannot be meant for both.
        let is_one = usual.all(|it| Some(it) == first);
        if self.accumulation.is_some() && !is_one {
            sheet.cannot("the declared accumulation: the optimizers have windows of different lengths");
        }
        for (&optimizer, open) in made() {
            self.finish_one(optimizer, open, self.accumulation.filter(|_| is_one), sheet);
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use traintrue_protocol::contract::Tail;

    use super::*;
    use crate::invariants::recorded::testing::*;
    use crate::testing::{breaks, judge};

    fn held(events: &[Event]) -> Sheet {
        let sheet = judge(RULE.name, events);
        assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
        assert!(sheet.compared > 0, "nothing was compared");
        sheet
    }

    #[rstest]
    #[case::flushed(Shape::default(), "windows of 4 micro-batches")]
    #[case::dropped(Shape { tail: Tail::Drop, ..Shape::default() }, "windows of 4 micro-batches")]
    #[case::carried(Shape { tail: Tail::Carry, ..Shape::default() }, "windows of 4 micro-batches")]
    #[case::one_each(Shape { window: 1, ..Shape::default() }, "windows of 1 micro-batch")]
    #[case::longer_than_an_epoch(Shape { window: 16, ..Shape::default() }, "windows of 10 micro-batches")]
    fn a_clean_loop_holds(#[case] shape: Shape, #[case] observed: &str) {
        assert_eq!(held(&clean(shape)).observed, [observed]);
    }

    #[test]
    fn the_optimizers_of_a_gan_have_windows_of_their_own() {
        let sheet = held(&gan(5));
        let windows = [
            "windows of 2 micro-batches of optimizer 0 (Adam)",
            "windows of 1 micro-batch of optimizer 1 (Adam)",
        ];
        assert_eq!(sheet.observed, windows);
        assert!(sheet.remarks.is_empty(), "{:?}", sheet.remarks);
    }

    fn in_each(change: fn(&mut Update)) -> Vec<Event> {
        let mut events = clean(Shape { batches: 24, ..Shape::default() });
        updates(&mut events).for_each(change);
        events
    }

    fn at(steps: &[u64], change: fn(&mut Update)) -> Vec<Event> {
        let mut events = clean(Shape { batches: 24, ..Shape::default() });
        updates(&mut events).filter(|it| steps.contains(&it.step)).for_each(change);
        events
    }

    fn shorter(it: &mut Update) {
        (it.micro_batches, since(it).micro_batches) = (Some(3), 3);
    }

    #[rstest]
    #[case::closure(in_each(|it| { since(it).closure = true; since(it).unused = 3; it.micro_batches = Some(1); }))]
    #[case::tokens_per_update(in_each(|it| { let n = 2 + it.step % 4; it.micro_batches = Some(n); since(it).micro_batches = n; }))]
    #[case::growing(at(&[1, 2], |it| { let n = it.step; it.micro_batches = Some(n); since(it).micro_batches = n; }))]
    #[case::a_loss_that_spiked(at(&[5], |it| { it.micro_batches = Some(3); since(it).unused = 1; }))]
    #[case::once_shorter(at(&[5], shorter))]
    #[case::gradients_of_a_picture(at(&[2, 5], |it| {
        (since(it).micro_batches, since(it).unused, since(it).evaluations) = (5, 1, 1);
    }))]
    #[case::the_last(at(&[18], |it| { since(it).epoch_ended = false; shorter(it); }))]
    #[case::resumed_inside_a_window(at(&[1], |it| { since(it).loaded = true; it.micro_batches = Some(1); since(it).micro_batches = 1; }))]
    fn what_right_loops_do_too_is_no_accusation(#[case] events: Vec<Event>) {
        let sheet = judge(RULE.name, &events);
        assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
    }

    #[test]
    fn an_optimizer_that_climbs_first_clears_a_gradient_of_its_own() {
        let mut events = in_each(|it| {
            since(it).unused = 1;
            since(it).micro_batches = 5;
        });
        recorded(&mut events).optimizers = vec!["SAM".into()];
        assert!(judge(RULE.name, &events).broken.is_none());
    }

    #[test]
    fn a_batch_that_the_loop_skips_makes_its_window_shorter() {
        let mut events = at(&[2], shorter);
        recorded(&mut events).accumulation = Some(4);
        let skipped = |event: &Event| matches!(event, Event::MicroBatch(it) if it.index == 5);
        let skipped = crate::testing::position(&events, skipped);
        events.remove(skipped);
        held(&events);
    }

    #[rstest]
    #[case::never_cleared(in_each(|it| it.micro_batches = Some(4 * it.step)), "window", "zero_grad() is missing")]
    #[case::cleared_each_time(in_each(|it| { it.micro_batches = Some(1); since(it).unused = 3; }), "window",
        "clears the gradients of 3 micro-batches before")]
    #[case::cleared_before_the_step(in_each(|it| { it.micro_batches = Some(0); since(it).unused = 4; }), "window",
        "between backward() and step()")]
    #[case::cleared_by_the_evaluation(at(&[2, 5], |it| {
        (it.micro_batches, since(it).unused, since(it).evaluations) = (Some(2), 2, 1);
    }), "window", "the evaluation clears")]
    #[case::closed_by_the_evaluation(at(&[2, 5], |it| { shorter(it); since(it).evaluations = 1; }), "boundary",
        "an evaluation inside the window")]
    #[case::not_cleared_after_a_skip(at(&[4, 5], |it| match it.step {
        4 => it.applied = false,
        _ => it.micro_batches = Some(8),
    }), "window", "the gradients of the skipped update 4")]
    fn a_wrong_window_breaks(#[case] events: Vec<Event>, #[case] component: &str, #[case] cause: &str) {
        let found = breaks(judge(RULE.name, &events), component);
        assert!(found.contains(cause), "{found}");
    }

    #[rstest]
    #[case::once_is_enough(at(&[5], shorter), "closes early")]
    #[case::always(in_each(|it| { it.micro_batches = Some(6); since(it).micro_batches = 6; }), "closes late")]
    fn a_declared_accumulation_is_held_strictly(#[case] mut events: Vec<Event>, #[case] cause: &str) {
        recorded(&mut events).accumulation = Some(4);
        let found = breaks(judge(RULE.name, &events), "boundary");
        assert!(found.contains(cause), "{found}");
    }

    /// The loop steps after micro-batches 0, 4, 8 of each epoch.
    fn off_by_one(epochs: u64) -> Vec<Event> {
        let mut events = clean(Shape { epochs, batches: 24, ..Shape::default() });
        let steps: Vec<Event> = events.iter().filter(|it| matches!(it, Event::Update(_))).cloned().collect();
        events.retain(|event| !matches!(event, Event::Update(_)));
        for (turn, mut update) in steps.into_iter().enumerate() {
            let (epoch, index) = (turn as u64 / 6, turn as u64 % 6 * 4);
            if let Event::Update(it) = &mut update {
                let held = if turn == 0 { 1 } else { 4 };
                it.micro_batches = Some(held);
                *since(it) = Since { micro_batches: held, epoch_ended: index == 0, ..Since::default() };
            }
            let after = |event: &Event| matches!(event, Event::MicroBatch(it) if (it.epoch, it.index) == (epoch, index));
            let after = crate::testing::position(&events, after);
            events.insert(after + 1, update);
        }
        events
    }

    #[rstest]
    #[case(1)]
    #[case(3)]
    fn a_step_after_the_first_micro_batch_is_named(#[case] epochs: u64) {
        let found = breaks(judge(RULE.name, &off_by_one(epochs)), "boundary");
        assert!(found.contains("(step + 1) % 4 == 0 is meant"), "{found}");
    }
}
