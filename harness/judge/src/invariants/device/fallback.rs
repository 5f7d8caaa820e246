//! `device/falls-back-whole`: a run leaves a device that is missing or too small before it loads anything onto it, and
//! the trace says why.

use traintrue_memory::bytes::Bytes;
use traintrue_protocol::plan::{Boundary, DeviceChoice};
use traintrue_protocol::trace::event::{Adapted, End, EndReason, Memory, Run, State};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line, TraceError};
use traintrue_protocol::vocabulary::{Adaptation, Component, Lane};

use crate::finding::{Difference, Sheet};
use crate::invariants::shared::stream::Stream;
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

pub(crate) static RULE: Rule = Rule {
    name: "device/falls-back-whole",
    says: "a run leaves a device that is too small before it loads anything, with the reason in the trace",
    verifies: "The run computes on the plan's device that its adapted events lead to. Each of these events has a \
               reason and comes before any state, probe or micro-batch. The parameters fit the budget of that device. \
               heap_bytes and device_in_use_bytes are not higher after a device is given up than before, apart from 4 \
               KiB for the text of the reason. If no device is left, the run ends with an error that says why, and \
               without a state.",
    does_not_verify: "Moments, gradients and activations against the budget: running out of memory during training is \
                      oom/leaves-a-checkpoint. Bytes that were allocated on the given-up device and are free again.",
    kind: Kind::Run(judge),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Device,
    needs: &[Fact::Plan],
};

/// Heap that the text of a reason may take: the event is in memory when the next sample is taken.
const WORDS_BYTES: u64 = 4096;

const LANES: [Lane; 2] = [Lane::HeapBytes, Lane::DeviceInUseBytes];

fn judge(run: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    let mut stream = Stream::of(&run.segments);
    let Some(line) = stream.next()? else { return Ok(()) };
    let Event::Run(opening) = &line.event else { return Ok(()) };
    if opening.plan.devices.is_empty() {
        sheet.cannot("the plan names no devices");
        return Ok(());
    }
    let mut fallback = Fallback { opening, given_up: 0, model_seen: false, first: None };
    while let Some(line) = stream.next()? {
        match &line.event {
            Event::Adapted(it) if it.what == Adaptation::Device => fallback.given_up(it, &line, sheet),
            Event::Memory(it) if it.at == Boundary::Adaptation => fallback.memory(it, &line, sheet),
            Event::State(it) => fallback.state(it, &line, sheet),
            Event::Probe(_) | Event::MicroBatch(_) => fallback.model_seen = true,
            Event::End(it) if it.reason == EndReason::Error => fallback.refused(it, &line, sheet),
            _ => {}
        }
    }
    fallback.arrived(&line, sheet);
    if fallback.first.is_none() {
        sheet.missing("memory before a device was chosen");
    }
    Ok(())
}

struct Fallback<'a> {
    opening: &'a Run,
    given_up: usize,
    model_seen: bool,
    /// Memory before the first device was tried.
    first: Option<Memory>,
}

impl Fallback<'_> {
    fn choice(&self) -> Option<&DeviceChoice> {
        self.opening.plan.devices.get(self.given_up)
    }

    fn given_up(&mut self, it: &Adapted, line: &Line, sheet: &mut Sheet) {
        let silent = it.reason.trim().is_empty();
        sheet.check(!silent && !self.model_seen, line, || Difference {
            expected: "a reason, before there is a model".into(),
            actual: if silent { "no reason" } else { "another device after the model was loaded" }.into(),
            component: if silent { Component::Placement } else { Component::Loader },
            cause:
                "the trainer changes the device without a reason in the trace, or after the model was loaded"
                    .into(),
        });
        self.given_up += 1;
    }

    fn memory(&mut self, it: &Memory, line: &Line, sheet: &mut Sheet) {
        let Some(first) = &self.first else {
            self.first = Some(it.clone());
            return;
        };
        for lane in LANES {
            let held = |memory: &Memory| memory.lanes.get(lane.name()).copied().flatten();
            // A lane that the trainer does not have is skipped: not every device is measured.
            let (Some(before), Some(after)) = (held(first), held(it)) else { continue };
            sheet.check(after <= before.saturating_add(WORDS_BYTES), line, || Difference {
                expected: format!("at most {before} B of {lane}, as before the device was tried"),
                actual: format!("{after} B"),
                component: Component::Loader,
                cause: format!(
                    "{} stay allocated after the device is given up: check the model's size before loading any of it",
                    Bytes(after - before)
                ),
            });
        }
    }

    fn state(&mut self, it: &State, line: &Line, sheet: &mut Sheet) {
        self.model_seen = true;
        let Some(budget) = self.choice().and_then(|choice| choice.budget_bytes) else { return };
        let bytes = it.tensors.iter().map(|tensor| tensor.elements().saturating_mul(4));
        let parameters = bytes.fold(0, u64::saturating_add);
        sheet.check(parameters <= budget, line, || Difference {
            expected: format!("a model within {budget} B on {}", self.opening.device),
            actual: format!("{parameters} B of parameters"),
            component: Component::Placement,
            cause: "the model does not fit the device that the trace names: check the size against the budget, or \
                    report the device that is used"
                .into(),
        });
    }

    /// No device was left.
    fn refused(&mut self, it: &End, line: &Line, sheet: &mut Sheet) {
        let said = it.message.as_ref().is_some_and(|message| !message.trim().is_empty());
        sheet.check(said, line, || Difference {
            expected: "a message with the reason".into(),
            actual: "none".into(),
            component: Component::Placement,
            cause: "the run ends with an error that has no message".into(),
        });
    }

    fn arrived(&self, opening: &Line, sheet: &mut Sheet) {
        let found = self.opening.device.as_str();
        let due = self.choice().map(|choice| choice.device.as_deref().unwrap_or(found));
        sheet.check(due == Some(found), opening, || Difference {
            expected: due.map_or("another device in the plan".into(), |due| format!("device {due}")),
            actual: format!("device {found}, after {} adapted events", self.given_up),
            component: Component::Placement,
            cause: "the device changed, and no adapted event says so".into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::*;

    fn memory(heap_bytes: u64) -> Event {
        let lanes = [("heap_bytes".to_owned(), Some(heap_bytes))].into();
        Event::Memory(Memory { at: Boundary::Adaptation, step: 0, lanes })
    }

    fn adapted(reason: &str) -> Event {
        let (from, to) = ("cuda:0".into(), "ndarray".into());
        Event::Adapted(Adapted {
            what: Adaptation::Device,
            from,
            to,
            accumulation: None,
            reason: reason.into(),
        })
    }

    /// A run that was moved from a GPU which is not there to the CPU; its model has 384 B.
    fn moved() -> Vec<Event> {
        let mut events = whole();
        if let Event::Run(run) = &mut events[0] {
            let choice = |device: &str| DeviceChoice { device: Some(device.into()), budget_bytes: Some(384) };
            run.plan.devices = vec![choice("cuda:0"), choice("ndarray")];
            run.device = "ndarray".into();
        }
        events.splice(1..1, [memory(1000), adapted("no CUDA driver"), memory(1400)]);
        events
    }

    #[test]
    fn a_device_that_is_given_up_whole_holds() {
        let sheet = judge_runs(RULE.name, &[moved()], &[]);
        assert!(sheet.compared > 3);
        holds(&sheet);
    }

    #[rstest]
    #[case::silent(|events: &mut Vec<Event>| { events.remove(2); }, "placement", "no adapted event says so")]
    #[case::no_reason(|events: &mut Vec<Event>| events[2] = adapted(" "), "placement", "without a reason in the trace")]
    #[case::half_loaded(|events: &mut Vec<Event>| events[3] = memory(9000), "loader", "7.8 KiB stay allocated")]
    #[case::too_late(|events: &mut Vec<Event>| {
        let it = events.remove(2);
        events.insert(9, it);
    }, "loader", "after the model was loaded")]
    #[case::does_not_fit(|events: &mut Vec<Event>| {
        if let Event::Run(run) = &mut events[0] {
            run.plan.devices[1].budget_bytes = Some(383);
        }
    }, "placement", "the model does not fit the device")]
    fn a_fallback_that_is_silent_late_or_leaves_something_breaks(
        #[case] change: fn(&mut Vec<Event>),
        #[case] component: &str,
        #[case] cause: &str,
    ) {
        let mut events = moved();
        change(&mut events);
        let found = breaks(judge_runs(RULE.name, &[events], &[]), component);
        assert!(found.contains(cause), "{found}");
    }

    #[rstest]
    #[case(Some("ndarray within 100 B: 384 B are needed"), false)]
    #[case(None, true)]
    fn a_refusal_says_why(#[case] message: Option<&str>, #[case] broken: bool) {
        let mut events = moved();
        events.truncate(4);
        let message = message.map(str::to_owned);
        events.push(Event::End(End::new(EndReason::Error, message)));
        let sheet = judge_runs(RULE.name, &[events], &[]);
        assert_eq!(sheet.broken.is_some(), broken);
    }

    #[test]
    fn a_plan_without_devices_is_not_judged() {
        assert!(judge_runs(RULE.name, &[whole()], &[]).missing.is_some());
    }
}
