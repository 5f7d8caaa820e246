//! `schedule/closed-form`: the learning rate of every update is the schedule's.

use traintrue_protocol::contract::FirstLr;
use traintrue_protocol::number::Number;
use traintrue_protocol::trace::event::{State, Update};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::{Component, Moment};

use crate::arithmetic::{Counts, Rates};
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Opening, Rank, Rule, Watch};

/// Of the peak rate. A rate that was stored as an f32 is right: its rounding is 6e-8.
pub(crate) const TOLERANCE: f64 = 1e-7;

pub(crate) static RULE: Rule = Rule {
    name: "schedule/closed-form",
    says: "the learning rate of every update is the one that plan and contract give",
    verifies: "Every group's rate at every update, against the closed form of warm-up and decay with the total worked \
               out from the plan, within 1e-7 of the peak; and that the schedule has taken as many steps as there were \
               updates, wherever a state says so.",
    does_not_verify: "That the optimizer uses the rate it reports (seam/identical, partition/same-update), and groups \
                      with rates of their own.",
    kind: Kind::Trace(|opening| Box::new(Schedule::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Schedule,
    needs: &[Fact::Schedule],
};

struct Schedule {
    rates: Rates,
    suspects: Vec<(Rates, Counted, &'static str)>,
    peak: f64,
}

/// What a wrong schedule counts as a step.
#[derive(Clone, Copy)]
struct Counted {
    times: u64,
    more: i64,
}

impl Counted {
    const RIGHT: Self = Self { times: 1, more: 0 };

    fn at(self, step: u64) -> u64 {
        step.saturating_mul(self.times).saturating_add_signed(self.more)
    }
}

impl Schedule {
    fn new(opening: &Opening) -> Self {
        let rates = Rates::of(opening.plan, opening.contract);
        let counts = Counts::of(opening.plan, opening.contract);
        let world = opening.plan.train.world.max(1);
        Self { rates, suspects: suspects(rates, &counts, world), peak: rates.peak.abs() }
    }

    fn fits(&self, found: f64, expected: f64) -> bool {
        (found - expected).abs() <= TOLERANCE * self.peak
    }

    fn update(&self, it: &Update, line: &Line, sheet: &mut Sheet) {
        if it.lr.is_empty() {
            sheet.missing("lr");
        }
        let expected = self.rates.at(it.step);
        for &lr in &it.lr {
            sheet.check(self.fits(lr.0, expected), line, || Difference {
                expected: format!("lr {} at update {}", Number(expected), it.step),
                actual: format!("{lr}"),
                component: Component::Schedule,
                cause: self.cause(lr.0, it.step),
            });
        }
    }

    /// The known mistake that gives this rate, if one does.
    fn cause(&self, found: f64, step: u64) -> String {
        let explains =
            |(rates, counted, _): &&(Rates, Counted, _)| self.fits(found, rates.at(counted.at(step)));
        match self.suspects.iter().find(explains) {
            Some((.., what)) => format!("this is the rate that follows where {what}"),
            None => "the rate is not the schedule's".into(),
        }
    }
}

/// Mistakes that people make with schedules.
fn suspects(right: Rates, counts: &Counts, world: u64) -> Vec<(Rates, Counted, &'static str)> {
    let window = counts.accumulation;
    let total = |total: u64| Rates { total, ..right };
    let first = match right.first {
        FirstLr::Zero => FirstLr::Nonzero,
        FirstLr::Nonzero => FirstLr::Zero,
    };
    let micro_batches = counts.micro_batches.saturating_mul(counts.epochs);
    vec![
        (Rates { first, ..right }, Counted::RIGHT, "the warm-up is off by one"),
        (
            total(micro_batches),
            Counted::RIGHT,
            "the total is in micro-batches: it was not divided by the accumulation",
        ),
        (total(right.total / window), Counted::RIGHT, "the total was divided by the accumulation twice"),
        (total(micro_batches.div_ceil(window)), Counted::RIGHT, "the total is rounded up over all epochs"),
        (total(micro_batches / window), Counted::RIGHT, "the total is rounded down over all epochs"),
        (
            total(counts.epochs.saturating_mul(counts.micro_batches.div_ceil(window))),
            Counted::RIGHT,
            "the total counts a tail update every epoch, and the loop makes none",
        ),
        (
            total(counts.epochs.saturating_mul(counts.micro_batches / window)),
            Counted::RIGHT,
            "the total leaves out the tail update of every epoch",
        ),
        (right, Counted { times: window, more: 0 }, "the schedule steps at every micro-batch"),
        (right, Counted { times: world, more: 0 }, "the schedule steps once a rank at every update"),
        (right, Counted { times: 1, more: 1 }, "the schedule is one step ahead of the updates"),
        (right, Counted { times: 1, more: -1 }, "the schedule is one step behind the updates"),
    ]
}

fn state(it: &State, line: &Line, sheet: &mut Sheet) {
    let Some(taken) = it.schedule_step else {
        return sheet.missing("schedule_step");
    };
    sheet.check(taken == it.step, line, || Difference {
        expected: format!("{} steps of the schedule, as many as updates", it.step),
        actual: taken.to_string(),
        component: Component::Schedule,
        cause: if it.at == Moment::Loaded {
            "the schedule was not restored with the rest".into()
        } else {
            "the schedule does not step once an update".into()
        },
    });
}

impl Watch for Schedule {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        match &line.event {
            Event::Update(it) => self.update(it, line, sheet),
            Event::State(it) if it.at != Moment::Start => state(it, line, sheet),
            _ => {}
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::*;

    #[rstest]
    #[case::whole(whole())]
    #[case::resumed(cut_at(at(1, 2)).remove(1))]
    fn a_healthy_trace_holds(#[case] events: Vec<Event>) {
        holds(&judge(RULE.name, &events));
    }

    #[test]
    fn a_rate_stored_in_single_precision_is_right() {
        let mut events = whole();
        for step in 1..=6 {
            let lr = &mut update_at(&mut events, step).lr[0];
            lr.0 = f64::from(lr.0 as f32);
        }
        holds(&judge(RULE.name, &events));
    }

    #[rstest]
    // Peak 1e-3, warm-up 2, 6 updates: update 1 has 0.5e-3 and update 4 has (6 - 4) / 4.
    #[case(1, 0.0, "the warm-up is off by one")]
    // 14 micro-batches in place of 6 updates: (14 - 4) / 12.
    #[case(4, 1e-3 * 10.0 / 12.0, "it was not divided by the accumulation")]
    #[case(1, 1e-3 * 3.0 / 4.0, "every micro-batch")]
    // A total of 14 / 3 rounded up is 5: (5 - 4) / 3.
    #[case(4, 1e-3 / 3.0, "rounded up")]
    #[case(4, 7e-4, "not the schedule's")]
    fn a_wrong_rate_breaks_and_is_explained(#[case] step: u64, #[case] lr: f64, #[case] cause: &str) {
        let mut events = whole();
        update_at(&mut events, step).lr = vec![Number(lr)];
        let found = breaks(judge(RULE.name, &events), "schedule");
        assert!(found.contains(cause), "{found}");
    }

    #[test]
    fn a_schedule_that_was_not_restored_breaks() {
        let mut events = cut_at(at(1, 2)).remove(1);
        state_at(&mut events, Moment::Loaded).schedule_step = Some(0);
        assert_eq!(
            breaks(judge(RULE.name, &events), "schedule"),
            "the schedule was not restored with the rest"
        );
    }
}
