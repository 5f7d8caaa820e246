//! `window/closes-as-declared`: an update comes when its accumulation window is full, or at an epoch's end as the
//! contract says.

use traintrue_protocol::contract::Tail;
use traintrue_protocol::trace::event::{Cursor, Edge, EndReason, MicroBatch, State, Update};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::{Component, Moment};

use crate::arithmetic::Counts;
use crate::finding::{Difference, Sheet};
use crate::invariants::shared::place::{Beginning, Place, micro_batches};
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

pub(crate) static RULE: Rule = Rule {
    name: "window/closes-as-declared",
    says: "the optimizer steps after exactly the plan's number of micro-batches, and at an epoch's end as the contract \
           says",
    verifies: "The judge counts the micro-batches since the last update, in a resumed trace from the loaded cursor. \
               The update comes at the plan's number, or with the partial last window of an epoch. Its step, \
               micro-batches and targets equal the judge's counts. A loaded state has the window that its cursor \
               implies. A finished run made all its updates.",
    does_not_verify: "That the update contains the gradients of these micro-batches (partition/same-update, \
                      seam/identical).",
    kind: Kind::Trace(|opening| Box::new(Window::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Window,
    needs: &[Fact::Plan],
};

struct Window {
    counts: Counts,
    beginning: Beginning,
    /// Known once the trace has said where it begins.
    open: Option<Open>,
    updates: u64,
    skipped: bool,
}

/// The open accumulation window.
struct Open {
    /// Micro-batches in it.
    held: u64,
    /// Those of them that an earlier trace has.
    earlier: u64,
    /// Supervised positions in it. None if some of its micro-batches are in another trace or do not give their targets.
    targets: Option<u64>,
    /// Updates done.
    step: u64,
    /// The place of the next micro-batch.
    next: Cursor,
    /// Micro-batches that the last epoch's end dropped.
    dropped: u64,
}

impl Window {
    fn new(opening: &Opening) -> Self {
        Self {
            counts: Counts::of(opening.plan, opening.contract),
            beginning: Beginning::of(opening.plan),
            open: None,
            updates: 0,
            skipped: false,
        }
    }

    fn open(&mut self) -> Option<&mut Open> {
        if self.open.is_none() {
            let next = self.counts.settle(self.beginning.cursor()?);
            // A resumed trace may begin inside a window, so the window starts with what the cursor implies.
            let held = self.counts.open_window(next);
            // The targets of micro-batches in an earlier trace are unknown, so this window's sum is not compared.
            let targets = (held == 0).then_some(0);
            self.open = Some(Open {
                held,
                earlier: held,
                targets,
                step: self.counts.updates_at(next),
                next,
                dropped: 0,
            });
        }
        self.open.as_mut()
    }

    fn loaded(&mut self, it: &State, line: &Line, sheet: &mut Sheet) {
        let Some(cursor) = it.cursor.filter(|_| self.beginning.cursor().is_some()) else {
            return sheet.missing("loaded cursor");
        };
        let cursor = self.counts.settle(cursor);
        let (window, step) = (self.counts.open_window(cursor), self.counts.updates_at(cursor));
        sheet.check(it.step == step, line, || Difference {
            expected: format!("step {step} at {}", Place::from(cursor)),
            actual: format!("step {}", it.step),
            component: Component::Boundary,
            cause: "the loaded number of updates does not match the loaded position in the data".into(),
        });
        match it.window {
            None => sheet.missing("window"),
            Some(found) => {
                sheet.check(found == window, line, || Difference {
                    expected: format!(
                        "{} in the open window at {}",
                        micro_batches(window),
                        Place::from(cursor)
                    ),
                    actual: found.to_string(),
                    component: Component::Boundary,
                    cause: if found < window {
                        lost(cursor, window - found)
                    } else {
                        "the loaded window counts more micro-batches than were trained since the last update"
                            .into()
                    },
                });
            }
        }
    }

    fn micro_batch(&mut self, it: &MicroBatch, line: &Line, sheet: &mut Sheet) {
        let full = self.counts.accumulation;
        let Some(open) = self.open() else {
            return sheet.missing("loaded cursor");
        };
        // Reported at the micro-batch and not at the update: a window that never closes has no update. One that began
        // before a resume waits for its update, which tells whether the earlier micro-batches were lost.
        let (held, step) = (open.held, open.step);
        sheet.check(held < full.saturating_add(open.earlier), line, || Difference {
            expected: format!(
                "update {} after {}, before this one",
                step.saturating_add(1),
                micro_batches(full)
            ),
            actual: format!("micro-batch {} of the same window", held + 1),
            component: Component::Boundary,
            cause: LATE.into(),
        });
        open.held += 1;
        open.targets = open.targets.zip(it.targets).map(|(sum, more)| sum.saturating_add(more));
        open.next = Cursor { epoch: it.epoch, micro_batches: it.index.saturating_add(1) };
    }

    fn update(&mut self, it: &Update, line: &Line, sheet: &mut Sheet) {
        let counts = self.counts;
        let Some(open) = self.open() else {
            return sheet.missing("loaded cursor");
        };
        let (held, targets, step) = (open.held, open.targets, open.step.saturating_add(1));
        let edge = open.next.micro_batches >= counts.micro_batches;
        // Under flush the last window of an epoch may be partial.
        let tail = counts.tail == Tail::Flush && edge && (1..counts.accumulation).contains(&held);
        sheet.check(held == counts.accumulation || tail, line, || Difference {
            expected: format!("an update after {}", micro_batches(counts.accumulation)),
            actual: format!("after {held}, before {}", Place::from(open.next)),
            component: Component::Boundary,
            cause: if held < counts.accumulation {
                early(open, counts)
            } else {
                late(open, it.micro_batches, counts)
            },
        });
        // A trainer may give a skipped step's number to the next update: GradScaler skips without counting.
        sheet.check(it.step == step || (!it.applied && it.step.saturating_add(1) == step), line, || {
            Difference {
                expected: format!("step {step}"),
                actual: format!("step {}", it.step),
                component: Component::Boundary,
                cause: "the number of updates is wrong: it does not continue from the last update".into(),
            }
        });
        match it.micro_batches {
            None => sheet.missing("micro_batches of an update"),
            Some(found) => {
                sheet.check(found == held, line, || Difference {
                    expected: format!("{} in update {}", micro_batches(held), it.step),
                    actual: found.to_string(),
                    component: Component::Boundary,
                    cause: if found < held {
                        format!(
                            "the update leaves out {} trained since the last update",
                            micro_batches(held - found)
                        )
                    } else {
                        format!(
                            "the update counts {} of other windows as well: where their gradients are still in the buffers, \
                             zero_grad() is missing after a step",
                            micro_batches(found - held)
                        )
                    },
                });
            }
        }
        if let Some((counted, found)) = targets.zip(it.targets) {
            sheet.check(found == counted, line, || Difference {
                expected: format!("{counted} targets in update {}", it.step),
                actual: found.to_string(),
                component: Component::Boundary,
                cause: "the update's number of targets is not the sum over its micro-batches".into(),
            });
        }
        // Continues from the trainer's own number, so that one wrong step gives one finding and not one per update.
        *open = Open { held: 0, earlier: 0, targets: Some(0), step: it.step, next: open.next, dropped: 0 };
        self.updates += 1;
        self.skipped |= !it.applied;
    }

    fn epoch_end(&mut self, line: &Line, sheet: &mut Sheet) {
        let counts = self.counts;
        let Some(open) = self.open() else { return };
        let held = open.held;
        let due = held >= counts.accumulation || (counts.tail == Tail::Flush && held > 0);
        sheet.check(!due, line, || Difference {
            expected: format!("an update after the last {} of the epoch", micro_batches(held)),
            actual: "the epoch ends without an update".into(),
            component: Component::Boundary,
            cause: format!(
                "the epoch ends without an update of its last {}: their gradients are lost or added to the next \
                 epoch's",
                micro_batches(held)
            ),
        });
        // Under flush and drop the next epoch starts with an empty window.
        if counts.tail != Tail::Carry {
            (open.dropped, open.held, open.earlier, open.targets) = (held, 0, 0, Some(0));
        }
    }
}

impl TraceRule for Window {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        self.beginning.see(&line.event);
        match &line.event {
            Event::State(it) if it.at == Moment::Loaded => self.loaded(it, line, sheet),
            Event::MicroBatch(it) => self.micro_batch(it, line, sheet),
            Event::Update(it) => self.update(it, line, sheet),
            Event::Epoch(it) if it.edge == Edge::End => self.epoch_end(line, sheet),
            Event::Adapted(it) => {
                if let Some(open) = &mut self.open {
                    open.next = self.counts.adapt(it, open.next);
                }
            }
            _ => {}
        }
    }

    fn finish(&mut self, last: &Line, sheet: &mut Sheet) {
        sheet.count("updates", self.updates);
        let total = self.counts.updates_total();
        let done = matches!(&last.event, Event::End(end) if end.reason == EndReason::Done);
        let Some(open) = self.open() else { return };
        let (step, held) = (open.step, open.held);
        // Skipped steps may keep their number, so the total is known only without them.
        if done && !self.skipped {
            sheet.check(step == total, last, || Difference {
                expected: format!("{total} updates"),
                actual: format!("{step}, and {} in an open window", micro_batches(held)),
                component: Component::Boundary,
                cause:
                    "the finished run did not make the number of updates that follows from its micro-batches"
                        .into(),
            });
        }
    }
}

fn lost(cursor: Cursor, count: u64) -> String {
    let end = cursor.micro_batches;
    let which = match (count, end.checked_sub(count)) {
        (1, Some(first)) => format!("micro-batch {first} of epoch {} never reaches", cursor.epoch),
        (_, Some(first)) => {
            format!("{}, {first} to {} of epoch {}, never reach", micro_batches(count), end - 1, cursor.epoch)
        }
        (_, None) => format!("{} before {} never reach", micro_batches(count), Place::from(cursor)),
    };
    format!("the partial window was lost: {which} an update")
}

const LATE: &str = "the window closes late: check the condition for optimizer.step(), it must count micro-batches since \
                    the last update";

/// Why the update of a window comes after too many micro-batches. `counted` is the update's own number of them.
fn late(window: &Open, counted: Option<u64>, counts: Counts) -> String {
    let since = window.held - window.earlier;
    if window.earlier == 0 || since != counts.accumulation {
        return LATE.into();
    }
    match (counted, window.next.micro_batches.checked_sub(since)) {
        (Some(counted), Some(resumed)) if counted == since => {
            lost(Cursor { epoch: window.next.epoch, micro_batches: resumed }, window.earlier)
        }
        _ => "the window closes late: after the resume its micro-batches are counted from zero".into(),
    }
}

fn early(window: &Open, counts: Counts) -> String {
    let edge = window.next.micro_batches >= counts.micro_batches;
    match counts.tail {
        Tail::Drop if edge => {
            "the trainer applies the partial last window of the epoch, but its contract drops it".into()
        }
        Tail::Carry if edge => {
            "the trainer applies the partial last window of the epoch, but its contract carries it into the next epoch".into()
        }
        _ if window.dropped > 0 && window.held + window.dropped == counts.accumulation => format!(
            "the window closes early: it counts the {} that the end of the epoch dropped",
            micro_batches(window.dropped)
        ),
        _ => "the window closes early: check the condition for optimizer.step(), it must count micro-batches since the last \
              update"
            .into(),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::*;

    #[rstest]
    #[case::whole(whole())]
    #[case::cut_mid_window(cut_at(at(0, 4)).remove(1))]
    #[case::cut_at_an_update(cut_at(at(0, 3)).remove(1))]
    #[case::cut_at_an_epoch(cut_at(at(0, 7)).remove(1))]
    fn a_healthy_trace_holds(#[case] events: Vec<Event>) {
        holds(&judge(RULE.name, &events));
    }

    #[test]
    fn updates_are_counted_for_the_report() {
        assert_eq!(judge(RULE.name, &whole()).counted["updates"], 6);
    }

    #[test]
    fn a_lost_window_is_named() {
        let mut events = cut_at(at(0, 5)).remove(1);
        state_at(&mut events, Moment::Loaded).window = Some(0);
        let cause = breaks(judge(RULE.name, &events), "boundary");
        assert_eq!(
            cause,
            "the partial window was lost: 2 micro-batches, 3 to 4 of epoch 0, never reach an update"
        );
    }

    /// A resumed trace whose state says nothing of its window, and whose first window has its own three micro-batches.
    #[rstest]
    #[case::lost(3, "the partial window was lost: micro-batch 3 of epoch 0 never reaches an update")]
    #[case::counted(4, "the window closes late: after the resume its micro-batches are counted from zero")]
    fn a_window_counted_from_the_resume_breaks(#[case] counted: u64, #[case] cause: &str) {
        let mut events = cut_at(at(0, 4)).remove(1);
        state_at(&mut events, Moment::Loaded).window = None;
        let update = position(&events, |event| matches!(event, Event::Update(it) if it.step == 2));
        let next = update + position(&events[update..], |event| matches!(event, Event::MicroBatch(_)));
        events[update..=next].rotate_left(1);
        update_at(&mut events, 2).micro_batches = Some(counted);
        assert_eq!(breaks(judge(RULE.name, &events), "boundary"), cause);
    }

    #[rstest]
    #[case::early(|events: &mut Vec<Event>, update: usize| events.swap(update, update - 1), "the window closes early")]
    #[case::late(|events: &mut Vec<Event>, update: usize| { let it = events.remove(update); events.insert(update + 3, it); },
        "the window closes late")]
    #[case::miscounted(|events: &mut Vec<Event>, _| update_at(events, 2).micro_batches = Some(1), "the update leaves \
        out 2 micro-batches trained since")]
    #[case::off_by_one(|events: &mut Vec<Event>, _| update_at(events, 2).step = 3, "the number of updates is wrong")]
    #[case::no_tail(|events: &mut Vec<Event>, _| {
        let tail = position(events, |event| matches!(event, Event::Update(it) if it.step == 3));
        events.remove(tail);
    }, "the epoch ends without an update of its last 1 micro-batch:")]
    #[case::targets(|events: &mut Vec<Event>, _| update_at(events, 2).targets = Some(1), "the update's number of targets")]
    fn a_wrong_boundary_breaks(#[case] change: fn(&mut Vec<Event>, usize), #[case] cause: &str) {
        let mut events = whole();
        let update = position(&events, |event| matches!(event, Event::Update(it) if it.step == 2));
        change(&mut events, update);
        let found = breaks(judge(RULE.name, &events), "boundary");
        assert!(found.starts_with(cause), "{found}");
    }
}
