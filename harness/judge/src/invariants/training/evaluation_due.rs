//! `evaluation/when-due`: an evaluation comes right after each update that it is due at, and at no other.

use traintrue_protocol::trace::event::EndReason;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

pub(crate) static RULE: Rule = Rule {
    name: "evaluation/when-due",
    says: "an evaluation comes right after each update that the plan wants one at, once, and after no other",
    verifies: "With `evaluate_every`, each update whose number it divides is followed by one evaluation of that step before \
               the next micro-batch, and no other step is evaluated. Without it, nothing is evaluated.",
    does_not_verify: "What is evaluated, and with which result (evaluation/whole-set-mean). The last update of a run that was \
                      stopped: its evaluation may come after the resume.",
    kind: Kind::Trace(|opening| Box::new(Due::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Evaluation,
    needs: &[Fact::Plan],
};

struct Due {
    every: Option<u64>,
    /// Updates done; none where the trace has not said so yet.
    step: Option<u64>,
    /// The step whose evaluation is to come.
    waits: Option<u64>,
    evaluated: Option<u64>,
}

impl Due {
    fn new(opening: &Opening) -> Self {
        Self { every: opening.plan.evaluate_every, step: None, waits: None, evaluated: None }
    }

    fn is_due(&self, step: u64) -> bool {
        step > 0 && self.every.is_some_and(|every| step.is_multiple_of(every))
    }

    fn updated(&mut self, step: u64) {
        self.step = Some(step);
        self.waits = self.is_due(step).then_some(step);
    }

    fn evaluated(&mut self, step: u64, line: &Line, sheet: &mut Sheet) {
        let now = self.step.unwrap_or(step);
        let is_again = self.evaluated == Some(step);
        let holds = step == now && self.is_due(step) && !is_again;
        let every = self.every.map_or("none".into(), |every| format!("one after every {every} updates"));
        sheet.check(holds, line, || Difference {
            expected: format!("evaluations: {every}"),
            actual: format!("one of step {step}{} after update {now}", if is_again { ", again," } else { "" }),
            component: Component::Evaluation,
            cause: if is_again {
                format!("step {step} is evaluated twice")
            } else if step != now {
                format!("the evaluation says that it is of step {step}, and {now} updates are done")
            } else {
                format!("step {step} is not one that the plan evaluates: check what the interval counts, and from where")
            },
        });
        self.evaluated = Some(step);
        self.waits = self.waits.filter(|wanted| *wanted != step);
    }

    fn goes_on(&mut self, line: &Line, sheet: &mut Sheet) {
        if self.every.is_none() || self.step.is_none() {
            return;
        }
        let waits = self.waits.take();
        sheet.check(waits.is_none(), line, || Difference {
            expected: format!("an evaluation of step {}", waits.unwrap_or_default()),
            actual: format!("the next {}", line.event.name().replace('_', "-")),
            component: Component::Evaluation,
            cause: format!(
                "step {} is not evaluated, and training goes on: check what the interval counts, and from where",
                waits.unwrap_or_default()
            ),
        });
    }
}

impl TraceRule for Due {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        match &line.event {
            Event::Update(it) => self.updated(it.step),
            Event::State(it) => self.step = Some(it.step),
            Event::Evaluation(it) => self.evaluated(it.step, line, sheet),
            Event::MicroBatch(_) => self.goes_on(line, sheet),
            Event::End(it) if it.reason == EndReason::Done => self.goes_on(line, sheet),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::*;

    fn evaluations(events: &[Event]) -> Vec<usize> {
        let is = |event: &Event| matches!(event, Event::Evaluation(_));
        (0..events.len()).filter(|&at| is(&events[at])).collect()
    }

    fn step(event: &mut Event, step: u64) {
        if let Event::Evaluation(it) = event {
            it.step = step;
        }
    }

    #[rstest]
    #[case::whole(whole())]
    #[case::resumed(cut_at(at(0, 7)).remove(1))]
    #[case::stopped(cut_at(at(0, 7)).remove(0))]
    fn evaluations_when_they_are_due_hold(#[case] events: Vec<Event>) {
        holds(&judge(RULE.name, &events));
    }

    #[rstest]
    #[case::left_out(|events: &mut Vec<Event>, at: usize| { events.remove(at); }, "step 3 is not evaluated")]
    #[case::twice(|events: &mut Vec<Event>, at: usize| events.insert(at, events[at].clone()), "step 3 is evaluated twice")]
    #[case::of_another_step(|events: &mut Vec<Event>, at: usize| step(&mut events[at], 2), "says that it is of step 2")]
    #[case::too_early(|events: &mut Vec<Event>, at: usize| {
        let mut moved = events.remove(at);
        step(&mut moved, 2);
        let update = position(events, |event| matches!(event, Event::Update(it) if it.step == 3));
        events.insert(update, moved);
    }, "step 2 is not one that the plan evaluates")]
    fn an_evaluation_elsewhere_says_where(#[case] change: fn(&mut Vec<Event>, usize), #[case] cause: &str) {
        let mut events = whole();
        let at = evaluations(&events)[0];
        change(&mut events, at);
        let found = breaks(judge(RULE.name, &events), "evaluation");
        assert!(found.contains(cause), "{found}");
    }

    #[test]
    fn an_evaluation_that_nobody_asked_for_breaks() {
        let mut events = whole();
        if let Event::Run(run) = &mut events[0] {
            run.plan.evaluate_every = None;
        }
        breaks(judge(RULE.name, &events), "evaluation");
    }
}
