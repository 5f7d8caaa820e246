//! `memory/relieved-in-order`: a run above its memory limit makes room in the right order, and a run below it does not.

use traintrue_protocol::plan::{Boundary, Plan};
use traintrue_protocol::trace::event::{Adapted, Checkpoint, CheckpointEdge, End, EndReason, Memory};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line, TraceError};
use traintrue_protocol::vocabulary::{Component, Lane};

use crate::finding::{Difference, Sheet};
use crate::invariants::shared::stream::Stream;
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

pub(crate) static RULE: Rule = Rule {
    name: "memory/relieved-in-order",
    says: "above its memory limit a run releases caches, then halves the micro-batch, then saves and stops; below it, \
           none of these",
    verifies: "After an update whose window peaked above the limit, the run adapts before the next micro-batch. First \
               it releases caches, and the heap shrinks by their size. Then it halves the micro-batch and doubles the \
               accumulation, so that an update keeps its samples. At one sample per micro-batch it saves and ends with \
               memory-limit. No adaptation follows a window that stayed below the limit, except the return to larger \
               micro-batches that the plan may ask for.",
    does_not_verify: "That the updates equal those of a run without a limit (partition/same-update). A peak that the \
                      trainer's samples miss.",
    kind: Kind::Run(judge),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Memory,
    needs: &[Fact::Plan],
};

/// The trainer measures its heap shortly before it writes the event, so the heap may have changed by this much in
/// between.
const SLACK_BYTES: u64 = 64 << 10;

const COMPONENT: Component = Component::Breaker;

fn judge(run: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    let mut stream = Stream::of(&run.segments);
    let Some(limit) = stream.run()?.and_then(|opening| Breaker::of(&opening.plan)) else {
        sheet.cannot("the plan has no memory limit");
        return Ok(());
    };
    let mut breaker = limit;
    while let Some(line) = stream.next()? {
        match &line.event {
            Event::Memory(it) => breaker.memory(it, &line, sheet),
            Event::Adapted(it) => breaker.adapted(it, &line, sheet),
            Event::Checkpoint(it) => breaker.saved(it),
            Event::MicroBatch(_) => breaker.trains_on(&line, sheet),
            Event::End(it) => breaker.ends(it, &line, sheet),
            _ => {}
        }
    }
    Ok(())
}

struct Breaker {
    limit_bytes: u64,
    recovers: bool,
    /// The plan's grouping and the current one: samples per micro-batch, micro-batches per window.
    planned: (u64, u64),
    now: (u64, u64),
    released: bool,
    /// The peak of the last window, until the run has adapted to it or trained on.
    peak_bytes: Option<u64>,
    /// The heap at the last sample, and the bytes that an adapted event says were freed.
    heap_bytes: Option<u64>,
    due_bytes: Option<u64>,
    step: u64,
    saved: Option<u64>,
}

impl Breaker {
    fn of(plan: &Plan) -> Option<Self> {
        let limit = plan.memory?;
        let planned = (plan.data.batch, plan.train.accumulation);
        Some(Self {
            limit_bytes: limit.bytes,
            recovers: limit.recover_after.is_some(),
            planned,
            now: planned,
            released: false,
            peak_bytes: None,
            heap_bytes: None,
            due_bytes: None,
            step: 0,
            saved: None,
        })
    }

    fn memory(&mut self, it: &Memory, line: &Line, sheet: &mut Sheet) {
        let lane = |lane: Lane| it.lanes.get(lane.name()).copied().flatten();
        let (Some(peak), Some(heap)) = (lane(Lane::HeapPeakBytes), lane(Lane::HeapBytes)) else {
            return sheet.missing(Lane::HeapPeakBytes.name());
        };
        match it.at {
            Boundary::Update => {
                (self.peak_bytes, self.heap_bytes, self.step) = (Some(peak), Some(heap), it.step);
            }
            Boundary::Evaluation | Boundary::Checkpoint => self.heap_bytes = Some(heap),
            Boundary::Adaptation => {
                let before = self.heap_bytes.replace(heap);
                if let Some((due, before)) = self.due_bytes.take().zip(before) {
                    let freed = before.saturating_sub(heap);
                    sheet.check(freed + SLACK_BYTES >= due, line, || Difference {
                        expected: format!("{due} B of caches freed from the heap"),
                        actual: format!("{freed} B"),
                        component: COMPONENT,
                        cause:
                            "the cache was cleared but the heap did not shrink by its size: its entries are referenced \
                             elsewhere"
                                .into(),
                    });
                }
            }
            Boundary::Epoch | Boundary::Forward | Boundary::Load | Boundary::Unload => {}
        }
    }

    fn adapted(&mut self, it: &Adapted, line: &Line, sheet: &mut Sheet) {
        // Growing back is a recovery with rules of its own.
        let grows = it.batches().is_some_and(|(from, to)| to > from);
        if grows {
            return self.recovered(it, line, sheet);
        }
        // An adaptation answers the peak, so the next micro-batch may follow.
        let (peak, limit) = (self.peak_bytes.take(), self.limit_bytes);
        sheet.check(peak.is_some_and(|peak| peak > limit), line, || Difference {
            expected: format!("no adaptation below {limit} B"),
            actual: format!("an adaptation at a peak of {} B: {}", peak.unwrap_or(0), it.reason),
            component: COMPONENT,
            cause: "the run adapts although its last window stayed below the limit: reset the peak counter after each \
                    window".into(),
        });
        match it.batches() {
            Some(batches) => self.halved(batches, it, line, sheet),
            None => {
                // Caches need to be released only once per run before the batch may shrink.
                self.released = true;
                self.due_bytes =
                    it.from.as_u64().zip(it.to.as_u64()).map(|(from, to)| from.saturating_sub(to));
            }
        }
    }

    fn halved(&mut self, (from, to): (u64, u64), it: &Adapted, line: &Line, sheet: &mut Sheet) {
        sheet.check(self.released, line, || Difference {
            expected: "caches released first".into(),
            actual: format!("micro-batches from {from} to {to}"),
            component: COMPONENT,
            cause: "the micro-batch is halved before any cache is released".into(),
        });
        self.regrouped(to, it, line, sheet);
    }

    fn recovered(&mut self, it: &Adapted, line: &Line, sheet: &mut Sheet) {
        let (peak, limit) = (self.peak_bytes.take(), self.limit_bytes);
        sheet.check(self.recovers && peak.is_some_and(|peak| peak <= limit), line, || Difference {
            expected: "a larger micro-batch only if the plan asks for it, and below the limit".into(),
            actual: format!("a larger micro-batch at a peak of {} B", peak.unwrap_or(0)),
            component: COMPONENT,
            cause: "the micro-batch grows although the plan does not ask for it, or while memory is above the limit".into(),
        });
        let to = it.batches().map_or(0, |(_, to)| to);
        self.regrouped(to, it, line, sheet);
    }

    /// An update keeps its number of samples: the learning rate was chosen for it.
    fn regrouped(&mut self, to: u64, it: &Adapted, line: &Line, sheet: &mut Sheet) {
        let (batch, accumulation) = self.planned;
        let now = (to, it.accumulation.unwrap_or(0));
        let (wanted, grouped) = (batch.saturating_mul(accumulation), now.0.saturating_mul(now.1));
        sheet.check(grouped == wanted && now.0 <= batch, line, || Difference {
            expected: format!("{wanted} samples per update, as {batch} x {accumulation}"),
            actual: format!("{grouped}, as {} x {}", now.0, now.1),
            component: COMPONENT,
            cause:
                "the micro-batch changes and the accumulation does not change with it: updates have another size from \
                 here on"
                    .into(),
        });
        self.now = now;
    }

    fn saved(&mut self, it: &Checkpoint) {
        if it.edge == CheckpointEdge::Saved {
            self.saved = Some(it.step);
        }
    }

    fn trains_on(&mut self, line: &Line, sheet: &mut Sheet) {
        let Some(peak) = self.peak_bytes.take() else { return };
        let limit = self.limit_bytes;
        // The peak is still unanswered: an adaptation would have taken it.
        sheet.check(peak <= limit.saturating_add(SLACK_BYTES), line, || Difference {
            expected: format!("an adaptation before the next micro-batch, after a peak of {peak} B"),
            actual: format!("no adaptation, and the limit is {limit} B"),
            component: COMPONENT,
            cause: "the peak exceeds the limit and the run trains on without making room".into(),
        });
    }

    fn ends(&mut self, it: &End, line: &Line, sheet: &mut Sheet) {
        let stopped = it.reason == EndReason::MemoryLimit;
        let peak = self.peak_bytes.take().unwrap_or(0);
        // All three must hold: still above the limit, nothing left to halve, and nothing lost.
        let last_resort = peak > self.limit_bytes && self.now.0 == 1 && self.saved == Some(self.step);
        sheet.check(!stopped || last_resort, line, || Difference {
            expected: "memory-limit only at one sample per micro-batch, with a checkpoint of the last update"
                .into(),
            actual: format!(
                "at {} samples per micro-batch, {}",
                self.now.0,
                self.saved.map_or("without a checkpoint".to_owned(), |step| format!("with a checkpoint of update {step}"))
            ),
            component: COMPONENT,
            cause: "the run stops while it can still halve the micro-batch, or without a checkpoint of its last update".into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;
    use traintrue_protocol::vocabulary::Adaptation;

    use super::*;
    use crate::testing::*;
    use traintrue_protocol::plan::MemoryLimit;

    const LIMIT: u64 = 10 << 20;
    const OVER: u64 = 12 << 20;
    const UNDER: u64 = 8 << 20;

    /// A step of a story.
    enum Step {
        /// An update whose window peaked so high, with so much on the heap after it.
        Update(u64, u64),
        /// Caches of so many bytes are released; so much is on the heap then.
        Released(u64, u64),
        /// From so many samples to so many, at that accumulation.
        Batch(u64, u64, u64),
        /// A checkpoint.
        Saved,
        /// The run gives up.
        GivesUp,
    }
    use Step::*;

    /// A trace of micro-batches of 8, two an update, within [`LIMIT`], and what happens to it.
    fn told(story: &[Step]) -> Vec<Event> {
        let mut events = vec![whole().remove(0)];
        let Event::Run(run) = &mut events[0] else { panic!("a run line") };
        (run.plan.data.batch, run.plan.train.accumulation) = (8, 2);
        run.plan.memory = Some(MemoryLimit { bytes: LIMIT, recover_after: None });
        let batch = whole().into_iter().find(|event| matches!(event, Event::MicroBatch(_))).unwrap();
        let checkpoint = cut_at(at(0, 4)).remove(0);
        let checkpoint = checkpoint.into_iter().find(|event| matches!(event, Event::Checkpoint(_))).unwrap();
        let mut step = 0;
        for happening in story {
            let memory = |at, step, peak: u64, heap: u64| {
                let lanes =
                    [("heap_peak_bytes".into(), Some(peak)), ("heap_bytes".into(), Some(heap))].into();
                Event::Memory(Memory { at, step, lanes })
            };
            let adapted = |what, from: u64, to: u64, accumulation| {
                let reason = "memory".to_owned();
                Event::Adapted(Adapted { what, from: json!(from), to: json!(to), accumulation, reason })
            };
            match *happening {
                Update(peak, heap) => {
                    step += 1;
                    events.extend([batch.clone(), memory(Boundary::Update, step, peak, heap)]);
                }
                Released(bytes, heap) => {
                    events.extend([
                        adapted(Adaptation::Cache, bytes, 0, None),
                        memory(Boundary::Adaptation, step, heap, heap),
                    ]);
                }
                Batch(from, to, accumulation) => {
                    events.push(adapted(Adaptation::Batch, from, to, Some(accumulation)))
                }
                Saved => {
                    let Event::Checkpoint(saved) = checkpoint.clone() else { panic!("a checkpoint") };
                    events.push(Event::Checkpoint(Checkpoint { step, ..saved }));
                }
                GivesUp => events.push(Event::End(End::new(EndReason::MemoryLimit, None))),
            }
        }
        events.push(batch);
        if matches!(story.last(), Some(GivesUp)) {
            events.pop();
        }
        events
    }

    const HEAP: u64 = 5 << 20;
    const CACHE: u64 = 1 << 20;

    #[rstest]
    #[case::within(vec![Update(UNDER, HEAP), Update(UNDER, HEAP)])]
    #[case::caches_were_enough(vec![Update(OVER, HEAP), Released(CACHE, HEAP - CACHE), Update(UNDER, HEAP)])]
    #[case::halved(vec![
        Update(OVER, HEAP), Released(CACHE, HEAP - CACHE), Update(OVER, HEAP), Batch(8, 4, 4), Update(UNDER, HEAP),
    ])]
    #[case::gave_up(vec![
        Update(OVER, HEAP), Released(CACHE, HEAP - CACHE), Update(OVER, HEAP), Batch(8, 4, 4), Update(OVER, HEAP),
        Batch(4, 2, 8), Update(OVER, HEAP), Batch(2, 1, 16), Update(OVER, HEAP), Saved, GivesUp,
    ])]
    fn room_is_made_in_order(#[case] story: Vec<Step>) {
        holds(&judge_runs(RULE.name, &[told(&story)], &[]));
    }

    #[rstest]
    #[case::nothing_done(vec![Update(OVER, HEAP)], "without making room")]
    #[case::spike_gone(vec![Update(UNDER, HEAP), Released(CACHE, HEAP - CACHE)], "stayed below the limit")]
    #[case::batch_first(vec![Update(OVER, HEAP), Batch(8, 4, 4)], "before any cache is released")]
    #[case::kept(vec![Update(OVER, HEAP), Released(CACHE, HEAP)], "referenced elsewhere")]
    #[case::not_doubled(vec![Update(OVER, HEAP), Released(0, HEAP), Update(OVER, HEAP), Batch(8, 4, 2)], "another size")]
    #[case::gave_up_early(vec![Update(OVER, HEAP), Released(0, HEAP), Update(OVER, HEAP), Saved, GivesUp], "the run stops while")]
    #[case::unasked_way_back(
        vec![Update(OVER, HEAP), Released(0, HEAP), Update(OVER, HEAP), Batch(8, 4, 4), Update(UNDER, HEAP), Batch(4, 8, 2)],
        "the micro-batch grows"
    )]
    fn room_that_is_not_made_or_made_wrongly_breaks(#[case] story: Vec<Step>, #[case] cause: &str) {
        let found = breaks(judge_runs(RULE.name, &[told(&story)], &[]), COMPONENT.name());
        assert!(found.contains(cause), "{found}");
    }
}
