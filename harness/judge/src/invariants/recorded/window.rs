//! `loop/window`: an update is made from the gradients of the micro-batches since the last one, and of as many as usual.

mod cleared;
mod lengths;

use std::collections::BTreeMap;

use traintrue_protocol::trace::event::{Edge, MicroBatch, Update};
use traintrue_protocol::trace::recorded::{Fact, Recorded};
use traintrue_protocol::trace::since::Since;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use self::cleared::Cleared;
use self::lengths::{Closed, Lengths, never_full};
use super::seen::{Optimizers, all_cleared, number};
use crate::finding::{Difference, Sheet};
use crate::invariants::shared::place::micro_batches;
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

pub(crate) static RULE: Rule = Rule {
    name: "loop/window",
    says: "each optimizer step uses the gradients of exactly the micro-batches since the step before it",
    verifies: "No gradients of earlier updates are left in the buffers, and none are cleared before a step has used \
               them. Each window holds as many micro-batches as declared, or as three quarters of the windows do. \
               Windows at an epoch's end, after a load and at the end of the run may be shorter; one \
               that holds micro-batches of two epochs may not be longer.",
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
    /// Windows in which an epoch ended, and the longest of them.
    edges: (u64, u64),
    /// Whether each micro-batch's gradients are clipped before they are cleared.
    clips_each: bool,
}

/// The batches of the open window, as far as one loader gave them.
#[derive(Default)]
struct Batches {
    first: Option<(Option<u64>, u64, u64)>,
    last: Option<(Option<u64>, u64, u64)>,
    trained: u64,
    samples: Vec<u64>,
    /// Whether two micro-batches in a row are of one batch.
    repeats: bool,
}

impl Batches {
    fn add(&mut self, it: &MicroBatch) {
        let place = (it.loader, it.epoch, it.index);
        // Two micro-batches on one drawn batch leave no gap.
        if self.last != Some(place) {
            self.trained += 1;
        }
        let samples = it.samples.as_deref().unwrap_or_default();
        let same_draw = it.loader.is_some() && self.last == Some(place);
        self.repeats |= same_draw || (!samples.is_empty() && samples == self.samples);
        self.samples = samples.to_vec();
        self.first.get_or_insert(place);
        self.last = Some(place);
    }

    /// Whether it holds micro-batches of two epochs of one loader.
    fn spans(&self) -> bool {
        match (self.first, self.last) {
            (Some((Some(loader), began, _)), Some((other, ended, _))) => {
                Some(loader) == other && began < ended
            }
            _ => false,
        }
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
        // Where all were cleared, no gradient says how many micro-batches it holds.
        let Some(held) = it.micro_batches.or(all_cleared(since).then_some(0)) else {
            return sheet.missing("micro_batches of an update");
        };
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
        // Lightning's closure runs once per step. An LBFGS closure runs as often as the optimizer needs, and clears
        // the gradients.
        if since.closure && held != since.micro_batches {
            return sheet
                .cannot("the windows of steps with a closure: the optimizer runs it as often as it needs");
        }
        let is_first = open.updates == 1;
        // Sharpness-aware minimisation reads the first gradient of a batch, clears it, and steps with the second.
        if batches.repeats && since.unused > 0 {
            sheet.cannot("gradients cleared before a step: the loop goes over one batch several times");
        } else {
            open.cleared.add(held, since, is_first, line);
        }
        if held == 0 {
            return;
        }
        if since.epoch_ended {
            open.edges = (open.edges.0 + 1, open.edges.1.max(held));
        }
        let clips = since.clips.iter().filter(|call| !call.used && call.held == 1).count() as u64;
        open.clips_each |= since.unused > 0 && clips > since.unused;
        // The first epoch begins in the first window, and that is no reason for a shorter one.
        let at_edge = since.epoch_ended && !(is_first && first_epoch);
        let closed = Closed {
            held,
            excused: at_edge || (since.loaded && is_first) || batches.has_gap(),
            spans: batches.spans(),
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
            // As private training does, which keeps their sum elsewhere.
            _ if open.clips_each && open.cleared.windows.times > 0 => {
                sheet.cannot(
                    "gradients cleared before a step: the loop clips those of each micro-batch by themselves",
                );
            }
            _ => open.cleared.judge(open.lengths.usual(), &of, sheet),
        }
        match accumulation {
            Some((full, _)) if open.edges.0 == open.updates && open.updates > 1 && open.edges.1 < full => {
                never_full(full, &of, sheet);
            }
            _ => open.lengths.judge(accumulation, &of, sheet),
        }
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
mod tests;
