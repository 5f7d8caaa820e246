//! `protocol/ends`: a trace goes through the plan's micro-batches in order and without gaps, and says how it ended.

use traintrue_protocol::trace::event::{Cursor, Edge, EndReason, Epoch, MicroBatch};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::arithmetic::Counts;
use crate::finding::{Difference, Sheet};
use crate::invariants::shared::place::{Beginning, Place};
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

pub(crate) static RULE: Rule = Rule {
    name: "protocol/ends",
    says: "a run trains its micro-batches in order, from its start to the end that the plan sets",
    verifies: "Epochs begin and end in order and are complete. Micro-batch indices count 0, 1, 2 ... within an epoch, \
               in a resumed trace from the loaded cursor. The last event is `end`, with reason `done` at the plan's \
               end or `stopped` at its stop.",
    does_not_verify: "Which samples the micro-batches hold (ledger/every-sample-once). Whether a resumed run begins \
                      where the last one stopped (seam/identical).",
    kind: Kind::Trace(|opening| Box::new(Ends::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Process,
    needs: &[Fact::Plan],
};

struct Ends {
    counts: Counts,
    stop: Option<Cursor>,
    /// Whether the plan sets a memory limit, so that the run may end with memory-limit.
    limited: bool,
    beginning: Beginning,
    /// The next micro-batch.
    due: Option<Cursor>,
    /// Whether the epoch of `due` has begun.
    open: bool,
    trained: bool,
    edges_seen: bool,
    ended: bool,
}

impl Ends {
    fn new(opening: &Opening) -> Self {
        let stop = opening.plan.stop.as_ref();
        Self {
            counts: Counts::of(opening.plan, opening.contract),
            limited: opening.plan.memory.is_some(),
            stop: stop.map(|stop| Cursor { epoch: stop.epoch, micro_batches: stop.micro_batches }),
            beginning: Beginning::of(opening.plan),
            due: None,
            open: false,
            trained: false,
            edges_seen: false,
            ended: false,
        }
    }

    /// The place of the next micro-batch; known once the trace has said where it begins.
    fn due(&mut self) -> Option<Cursor> {
        if self.due.is_none() {
            self.due = self.beginning.cursor().map(|cursor| self.counts.settle(cursor));
            self.open = self.due.is_some_and(|due| due.micro_batches > 0);
        }
        self.due
    }

    fn edge(&mut self, it: Epoch, line: &Line, sheet: &mut Sheet) {
        self.edges_seen = true;
        let Some(due) = self.due() else {
            return sheet.missing("loaded cursor");
        };
        let here = Cursor { epoch: it.epoch, micro_batches: 0 };
        match it.edge {
            Edge::Begin => {
                sheet.check(!self.open && due == here, line, || Difference {
                    expected: format!("{} next", Place::from(due)),
                    actual: format!("epoch {} begins", it.epoch),
                    component: Component::Protocol,
                    cause: "an epoch begins twice, out of order, or before the last one has ended".into(),
                });
                (self.due, self.open) = (Some(here), true);
            }
            Edge::End => {
                let next = Cursor { epoch: it.epoch.saturating_add(1), micro_batches: 0 };
                // A checkpoint of an epoch's last update is saved before that epoch's end event, so the event may come
                // after the load. Only before the first micro-batch: later on, a second end of the epoch is an error.
                let late = !self.trained && !self.open && due == next;
                sheet.check(late || (self.open && self.counts.settle(due) == next), line, || Difference {
                    expected: format!("{} next", Place::from(due)),
                    actual: format!("epoch {} ends", it.epoch),
                    component: Component::Protocol,
                    cause: format!(
                        "the epoch has {} micro-batches and does not end after the last of them",
                        self.counts.micro_batches
                    ),
                });
                (self.due, self.open) = (Some(next), false);
            }
        }
    }

    fn micro_batch(&mut self, it: &MicroBatch, line: &Line, sheet: &mut Sheet) {
        let here = Cursor { epoch: it.epoch, micro_batches: it.index };
        match self.due() {
            None => sheet.missing("loaded cursor"),
            Some(due) => {
                if !self.edges_seen && !self.open {
                    sheet.missing("epoch events");
                }
                // A trace without epoch events cannot show the edge, so the end of one epoch counts as the beginning
                // of the next.
                let due = if self.edges_seen { due } else { self.counts.settle(due) };
                let begun = self.open || !self.edges_seen;
                sheet.check(begun && due == here, line, || out_of_step(due, here, self.trained));
            }
        }
        // Continues from the trace's own place, so that one gap gives one finding.
        self.due = Some(Cursor { micro_batches: it.index.saturating_add(1), ..here });
        (self.open, self.trained) = (true, true);
    }
}

impl TraceRule for Ends {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        if self.ended {
            sheet.check(false, line, || Difference {
                expected: "nothing after the end event".into(),
                actual: format!("{} event", line.event.name()),
                component: Component::Protocol,
                cause: "the trainer writes events after its end event".into(),
            });
        }
        self.beginning.see(&line.event);
        match &line.event {
            Event::Epoch(it) => self.edge(*it, line, sheet),
            Event::MicroBatch(it) => self.micro_batch(it, line, sheet),
            Event::Adapted(it) => self.due = self.due.map(|due| self.counts.adapt(it, due)),
            Event::End(_) => self.ended = true,
            // Everything is judged by the plan and the contract of the first line.
            Event::Run(_) => {
                sheet.check(false, line, || Difference {
                    expected: "one run event, on the first line".into(),
                    actual: "another run event".into(),
                    component: Component::Protocol,
                    cause: "a second run begins within the trace: two processes may write into one file"
                        .into(),
                });
            }
            _ => {}
        }
    }

    fn finish(&mut self, last: &Line, sheet: &mut Sheet) {
        let Event::End(end) = &last.event else {
            sheet.check(false, last, || Difference {
                expected: "an end event".into(),
                actual: format!("the trace stops after a {} event", last.event.name()),
                component: Component::Protocol,
                cause: "the trainer died, or did not write an end event".into(),
            });
            return;
        };
        let done = Cursor { epoch: self.counts.epochs, micro_batches: 0 };
        let (wanted, place) = match self.stop {
            Some(stop) => ("stopped", self.counts.settle(stop)),
            None => ("done", done),
        };
        // A run may stop early for memory only if the plan sets a limit.
        let reason_fits = match end.reason {
            EndReason::Done => place == done,
            EndReason::Stopped => self.stop.is_some(),
            EndReason::MemoryLimit => self.limited,
            EndReason::Error | EndReason::Declined => false,
        };
        sheet.check(reason_fits, last, || Difference {
            expected: format!("reason {wanted}"),
            actual: format!("{}: {}", end.reason, end.message.as_deref().unwrap_or("no message")),
            component: Component::Protocol,
            cause: match end.reason {
                EndReason::Declined => {
                    "a plan is declined before the first micro-batch, or not at all".into()
                }
                _ => "the trainer ended for another reason than the plan gives".into(),
            },
        });
        if let Some(due) = self.due().filter(|_| end.reason != EndReason::MemoryLimit) {
            let reached = self.counts.settle(due);
            sheet.check(reached == place, last, || Difference {
                expected: format!("the end at {}", Place::from(place)),
                actual: format!("the end at {}", Place::from(reached)),
                component: Component::Protocol,
                cause: "the run ended at another micro-batch than the plan says".into(),
            });
        }
    }
}

fn out_of_step(due: Cursor, here: Cursor, trained: bool) -> Difference {
    let cause = match (due == here, here > due) {
        (true, _) => "a micro-batch comes before its epoch has begun".to_owned(),
        (_, true) => {
            format!("the micro-batches from {} until {} are skipped", Place::from(due), Place::from(here))
        }
        _ => format!("the micro-batches from {} until {} are repeated", Place::from(here), Place::from(due)),
    };
    Difference {
        expected: Place::from(due).to_string(),
        actual: Place::from(here).to_string(),
        component: if trained { Component::Protocol } else { Component::Cursor },
        cause,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use traintrue_protocol::vocabulary::Moment;

    use super::*;
    use crate::testing::*;
    use traintrue_protocol::trace::event::End;

    #[rstest]
    #[case::whole(whole())]
    #[case::stopped(cut_at(at(0, 4)).remove(0))]
    #[case::resumed(cut_at(at(0, 4)).remove(1))]
    #[case::stopped_at_an_edge(cut_at(at(0, 7)).remove(0))]
    #[case::resumed_at_an_edge(cut_at(at(0, 7)).remove(1))]
    fn a_healthy_trace_holds(#[case] events: Vec<Event>) {
        holds(&judge(RULE.name, &events));
    }

    #[test]
    fn a_resumed_trace_may_name_its_edge_by_the_epoch_that_ended() {
        let mut events = cut_at(at(0, 7)).remove(1);
        state_at(&mut events, Moment::Loaded).cursor = Some(at(0, 7));
        holds(&judge(RULE.name, &events));
    }

    #[rstest]
    #[case::skipped(|events: &mut Vec<Event>| { events.remove(batch_index(events, 3)); }, "protocol", "are skipped")]
    #[case::repeated(|events: &mut Vec<Event>| {
        let at = batch_index(events, 3);
        events.insert(at, events[at].clone());
    }, "protocol", "are repeated")]
    #[case::two_runs(|events: &mut Vec<Event>| events.insert(4, events[0].clone()), "protocol", "a second run begins")]
    #[case::no_end(|events: &mut Vec<Event>| { events.pop(); }, "protocol", "the trainer died")]
    #[case::error(|events: &mut Vec<Event>| {
        events.pop();
        events.push(Event::End(End::new(EndReason::Error, Some("out of paper".into()))));
    }, "protocol", "ended for another reason")]
    #[case::goes_on(|events: &mut Vec<Event>| events.push(memory("rss_bytes", 1)), "protocol", "writes events after")]
    #[case::epoch_twice(|events: &mut Vec<Event>| {
        let at = position(events, |event| matches!(event, Event::Epoch(_)));
        events.insert(at, events[at].clone());
    }, "protocol", "begins twice")]
    #[case::epoch_short(|events: &mut Vec<Event>| {
        let at = position(events, |event| matches!(event, Event::Epoch(it) if it.edge == Edge::End));
        let it = events.remove(at);
        events.insert(batch_index(events, 5), it);
    }, "protocol", "the epoch has 7 micro-batches")]
    fn a_broken_walk_breaks(
        #[case] change: fn(&mut Vec<Event>),
        #[case] component: &str,
        #[case] cause: &str,
    ) {
        let mut events = whole();
        change(&mut events);
        let found = breaks(judge(RULE.name, &events), component);
        assert!(found.contains(cause), "{found}");
    }

    #[test]
    fn a_resumed_run_that_begins_elsewhere_names_the_cursor() {
        let mut events = cut_at(at(0, 4)).remove(1);
        events.remove(batch_index(&events, 4));
        breaks(judge(RULE.name, &events), "cursor");
    }

    fn batch_index(events: &[Event], index: u64) -> usize {
        position(events, |event| matches!(event, Event::MicroBatch(it) if it.index == index))
    }
}
