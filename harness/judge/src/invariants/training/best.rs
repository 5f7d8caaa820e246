//! `best/is-the-best`: the best metric that a trainer keeps is the lowest of those that it has reported.

use traintrue_protocol::number::Number;
use traintrue_protocol::trace::event::State;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::{Component, Moment};

use crate::finding::{Difference, Sheet};
use crate::near::near;
use crate::rule::{Compares, Kind, Rank, Rule, TraceRule};

/// Relative: a metric that went through f32.
const TOLERANCE: f64 = 1e-6;

pub(crate) static RULE: Rule = Rule {
    name: "best/is-the-best",
    says: "the best metric that is kept is the lowest reported so far",
    verifies: "At each state that tells a best metric: it is the lowest of the metrics of this trace's evaluations, and of the \
               best that the trace began with. The metric is a loss: lower is better. NaN is no best.",
    does_not_verify: "That the checkpoint called the best is the one of that evaluation (artefact/best). That the best is \
                      restored on a resume (seam/identical).",
    kind: Kind::Trace(|_| Box::<Best>::default()),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Evaluation,
    needs: &[Fact::Plan],
};

#[derive(Default)]
struct Best {
    lowest: Option<f64>,
    highest: Option<f64>,
    last: Option<f64>,
}

impl Best {
    fn take(&mut self, metric: f64) {
        if metric.is_nan() {
            return;
        }
        self.lowest = Some(self.lowest.map_or(metric, |it| it.min(metric)));
        self.highest = Some(self.highest.map_or(metric, |it| it.max(metric)));
        self.last = Some(metric);
    }

    fn state(&mut self, it: &State, line: &Line, sheet: &mut Sheet) {
        let Some(best) = it.best else { return };
        if matches!(it.at, Moment::Start | Moment::Loaded) {
            return self.take(best.0);
        }
        let Some(lowest) = self.lowest else { return };
        let is = |other: f64| near(best, Number(other), TOLERANCE * other.abs());
        sheet.check(is(lowest), line, || Difference {
            expected: format!("best {}", Number(lowest)),
            actual: best.to_string(),
            component: Component::Evaluation,
            cause: if self.highest.is_some_and(is) {
                "the highest loss is kept as the best: check greater_is_better, and which way the comparison goes".into()
            } else if self.last.is_some_and(is) {
                "the newest loss is kept as the best, whatever came before".into()
            } else {
                "the best is none of the reported losses' lowest: check what it is compared with, and where it is reset".into()
            },
        });
    }
}

impl TraceRule for Best {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        match &line.event {
            Event::Evaluation(it) => it.metric.iter().for_each(|metric| self.take(metric.0)),
            Event::State(it) => self.state(it, line, sheet),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::*;

    /// Metrics of 3, 1 and 2 after updates 2, 4 and 6, and the best at the end.
    fn told(best: f64) -> Vec<Event> {
        let plan = traintrue_protocol::plan::Plan { evaluate_every: Some(2), ..plan() };
        let mut events = segment(&plan, None, None);
        let metrics = events.iter_mut().filter_map(|event| match event {
            Event::Evaluation(it) => it.metric.as_mut(),
            _ => None,
        });
        metrics.zip([3.0, 1.0, 2.0]).for_each(|(metric, value)| *metric = Number(value));
        state_at(&mut events, Moment::End).best = Some(Number(best));
        events
    }

    #[test]
    fn the_lowest_holds() {
        holds(&judge(RULE.name, &told(1.0)));
    }

    #[test]
    fn a_best_from_before_the_resume_stays() {
        let mut events = told(0.5);
        state_at(&mut events, Moment::Start).best = Some(Number(0.5));
        holds(&judge(RULE.name, &events));
    }

    #[rstest]
    #[case::highest(3.0, "the highest loss")]
    #[case::newest(2.0, "the newest loss")]
    #[case::other(0.1, "none of the reported")]
    fn another_best_says_which(#[case] best: f64, #[case] cause: &str) {
        let found = breaks(judge(RULE.name, &told(best)), "evaluation");
        assert!(found.contains(cause), "{found}");
    }
}
