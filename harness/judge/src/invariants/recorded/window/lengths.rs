//! How many micro-batches the windows of one optimizer hold.

use std::collections::BTreeMap;

use traintrue_protocol::trace::Line;
use traintrue_protocol::vocabulary::Component;

use crate::finding::{Difference, Sheet};
use crate::invariants::recorded::seen::{Counted, Sightings};
use crate::invariants::shared::place::micro_batches;

/// One window, closed by an update.
#[derive(Clone, Copy)]
pub(super) struct Closed {
    pub(super) held: u64,
    /// Whether it may be shorter: an epoch ended in it, it goes on after a load, or the loop skipped a batch.
    pub(super) excused: bool,
    /// Whether it holds micro-batches of two epochs of one loader.
    pub(super) spans: bool,
    /// Whether an evaluation ran in it.
    pub(super) evaluated: bool,
    /// Whether its last micro-batch was the first of an epoch.
    pub(super) after_first_batch: bool,
    pub(super) loaded: bool,
}

/// The lengths of all windows.
#[derive(Default)]
pub(super) struct Lengths {
    /// Windows that should be whole, by length.
    whole: BTreeMap<u64, OfLength>,
    counted: Counted,
    /// Windows that may be shorter.
    edges: Counted,
    /// The longest that holds micro-batches of two epochs.
    longest_over_an_edge: Option<(u64, Line)>,
    first: Option<(Closed, Line)>,
    last: Option<Closed>,
    /// Updates after the first micro-batch of an epoch, the first update aside.
    after_first_batch: u64,
    /// Whole windows that hold the first micro-batch of an epoch alone.
    first_alone: u64,
    /// How often a window was shorter than the one before.
    falls: u64,
    /// Whole windows before the first in which an evaluation ran, and whether there was one.
    until_evaluated: Counted,
    evaluated: bool,
}

#[derive(Default)]
struct OfLength {
    seen: Sightings,
    evaluated: u64,
}

impl Lengths {
    pub(super) fn add(&mut self, closed: Closed, line: &Line) {
        match self.first {
            None => self.first = Some((closed, line.clone())),
            Some(_) => self.after_first_batch += u64::from(closed.after_first_batch),
        }
        if closed.spans
            && self.longest_over_an_edge.as_ref().is_none_or(|(longest, _)| *longest < closed.held)
        {
            self.longest_over_an_edge = Some((closed.held, line.clone()));
        }
        if closed.excused {
            self.edges.add(closed.held);
        } else {
            let of_length = self.whole.entry(closed.held).or_default();
            of_length.seen.add(line);
            of_length.evaluated += u64::from(closed.evaluated);
            self.counted.add(closed.held);
            self.first_alone += u64::from(closed.after_first_batch && closed.held == 1);
            self.evaluated |= closed.evaluated;
            if !self.evaluated {
                self.until_evaluated.add(closed.held);
            }
            self.falls += u64::from(self.last.is_some_and(|last| !last.excused && closed.held < last.held));
        }
        self.last = Some(closed);
    }

    /// What most windows are; of all of them, where an epoch is about one window long.
    pub(super) fn usual(&self) -> Option<u64> {
        // A condition that is off by one closes a window after the first micro-batch of each epoch: in short epochs, many.
        let whole = self.counted.usual().or_else(|| self.counted.without(1, self.first_alone).usual());
        if whole.is_some() || self.counted.all() >= self.edges.all() {
            whole
        } else {
            self.counted.with(&self.edges).usual()
        }
    }

    /// Holds the lengths to an accumulation and who said it, or without one to what most of them are.
    pub(super) fn judge(&self, said: Option<(u64, &str)>, of: &str, sheet: &mut Sheet) {
        let Some((full, who)) = said.or(self.usual().map(|usual| (usual, "observed"))) else {
            if let Some((least, most)) = self.counted.range() {
                sheet.cannot(&match self.counted.all() {
                    ..3 => format!("the length of windows{of}: fewer than three are whole, and no accumulation is declared"),
                    _ => format!("the length of windows{of}: it varies from {least} to {most} micro-batches"),
                });
            }
            return;
        };
        if said.is_none() {
            sheet.observe(format!("windows of {}{of}", micro_batches(full)));
        }
        if let Some(first) = self.off_by_one(full) {
            sheet.check(false, first, || Difference {
                expected: format!("{} in the first window{of} ({who})", micro_batches(full)),
                actual: "1 micro-batch".into(),
                component: Component::Boundary,
                cause: format!(
                    "the optimizer steps after the first micro-batch: the condition is step % {full} == 0 where \
                     (step + 1) % {full} == 0 is meant"
                ),
            });
        }
        if let Some((held, line)) = self.longest_over_an_edge.as_ref().filter(|(held, _)| *held > full) {
            let left = held - full;
            sheet.check(false, line, || Difference {
                expected: format!("an update after {}{of} ({who})", micro_batches(full)),
                actual: format!("after {held}, over the end of an epoch"),
                component: Component::Boundary,
                cause: format!(
                    "the last {} of an epoch get no update: their gradients stay in the buffers, and are added to the next epoch's \
                     first window. Step at the end of the epoch too, or clear the gradients there",
                    micro_batches(left)
                ),
            });
        }
        let odd = self.odd(full);
        let odd_windows: u64 = odd.iter().map(|(_, it)| it.seen.times).sum();
        // Each whole window is one comparison.
        sheet.compared += self.counted.all() - odd_windows.min(self.counted.all());
        let Some((length, first)) =
            odd.iter().min_by_key(|(_, it)| it.seen.first.as_ref().map(|line| line.number))
        else {
            return self.perhaps_never_full(full, of, sheet);
        };
        let evaluated = odd_windows >= 2 && odd.iter().all(|(_, it)| it.evaluated == it.seen.times);
        let Some(line) = first.seen.first.as_ref().filter(|_| said.is_some() || evaluated) else {
            let words = if self.falls == 0 { "grow to" } else { "are" };
            return sheet.remark(format!(
                "windows{of} {words} {}; {odd_windows} of {} hold another number",
                micro_batches(full),
                self.counted.all()
            ));
        };
        sheet.check(false, line, || Difference {
            expected: format!("an update after {}{of} ({who})", micro_batches(full)),
            actual: format!("after {length}"),
            component: Component::Boundary,
            cause: match (evaluated, *length < full) {
                (false, true) if self.evaluated && self.until_evaluated.range() == Some((full, full)) => "from the first evaluation \
                              on, windows close early: check what the evaluation's loader does to the condition for \
                              optimizer.step(), as where it is left before its end",
                (_, true) if self.usual() == Some(1) => "optimizer.step() runs after every micro-batch: the accumulation has no \
                              effect",
                (true, _) => "an evaluation inside the window changes when it closes: check what the evaluation's loader \
                              does to the condition for optimizer.step()",
                (_, true) => "the window closes early: the condition for optimizer.step() must count micro-batches since \
                              the last step",
                (_, false) => "the window closes late: the condition for optimizer.step() must count micro-batches since \
                               the last step",
            }
            .into(),
        });
    }

    /// The first update, where the loop steps after micro-batches 0, K, 2 K …
    fn off_by_one(&self, full: u64) -> Option<&Line> {
        let (first, line) = self.first.as_ref()?;
        // A resumed run may begin one micro-batch before an update. Then the next epoch shows whether its steps come early.
        let is_fresh = !first.loaded && self.edges.all() == 0;
        let most_are_full = self.usual().is_none_or(|usual| usual == full);
        let begins_early = first.held == 1 && (is_fresh || self.after_first_batch > 0);
        (full > 1 && most_are_full && begins_early).then_some(line)
    }

    /// The lengths other than the usual one, of windows that should be whole. The last window may be shorter.
    fn odd(&self, full: u64) -> Vec<(u64, &OfLength)> {
        let last = self.last.filter(|last| !last.excused && last.held < full);
        let is_only_the_last =
            |length: u64, it: &OfLength| last.is_some_and(|last| last.held == length) && it.seen.times == 1;
        let odd = self.whole.iter().filter(|&(&length, it)| length != full && !is_only_the_last(length, it));
        odd.map(|(&length, it)| (length, it)).collect()
    }

    fn perhaps_never_full(&self, full: u64, of: &str, sheet: &mut Sheet) {
        if self.whole.is_empty() && self.edges.range().is_some_and(|(_, longest)| longest < full) {
            never_full(full, of, sheet);
        }
    }
}

/// Tells that each epoch ends before its first window is full.
pub(super) fn never_full(full: u64, of: &str, sheet: &mut Sheet) {
    sheet.remark(format!("no window{of} was ever full: each epoch ends before {}", micro_batches(full)));
}
