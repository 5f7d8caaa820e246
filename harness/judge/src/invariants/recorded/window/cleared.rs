//! Gradients that the loop cleared before a step of their optimizer used them.

use traintrue_protocol::trace::since::Since;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::finding::{Difference, Sheet};
use crate::invariants::recorded::seen::{Counted, Sightings, most};
use crate::invariants::shared::place::micro_batches;

/// Windows that lost gradients.
#[derive(Default)]
pub(super) struct Cleared {
    pub(super) windows: Sightings,
    /// Windows inside an epoch, with or without them.
    all: u64,
    micro_batches: u64,
    /// What is left in the windows in which an evaluation ran.
    evaluated: Counted,
    /// Micro-batches cleared where an epoch ended: a tail that the loop drops.
    tails: u64,
}

impl Cleared {
    pub(super) fn add(&mut self, held: u64, since: &Since, is_first: bool, line: &Line) {
        if since.epoch_ended && !is_first {
            self.tails = self.tails.saturating_add(since.unused);
            return;
        }
        self.all += 1;
        if since.unused == 0 {
            return;
        }
        self.windows.add(line);
        self.micro_batches = self.micro_batches.saturating_add(since.unused);
        if since.evaluations > 0 {
            self.evaluated.add(held);
        }
    }

    /// Holds them to `usual`, the length of most windows.
    pub(super) fn judge(&self, usual: Option<u64>, of: &str, sheet: &mut Sheet) {
        let times = self.windows.times;
        let always = times >= 2 && most(times, self.all);
        // An evaluation may clear gradients of its own, as for saliency maps. The window is then as long as usual.
        let left = self.evaluated.range().map(|(_, most)| most);
        let is_shorter = left.zip(usual).is_some_and(|(left, usual)| left < usual);
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
