//! `schedule/closed-form`: the learning rate of every update follows from the schedule.

use traintrue_logs::Precision;
use traintrue_protocol::contract::FirstLr;
use traintrue_protocol::number::Number;
use traintrue_protocol::trace::event::{Cursor, State, Update};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::{Component, Moment};

use crate::arithmetic::{Counts, Rates};
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

/// Relative to the peak rate. A rate that is stored as an f32 must pass: its rounding error is 6e-8.
pub(crate) const TOLERANCE: f64 = 1e-7;

pub(crate) static RULE: Rule = Rule {
    name: "schedule/closed-form",
    says: "the learning rate of every update is the one that follows from the plan and the contract",
    verifies: "The learning rate of every parameter group at every update equals the closed form of warm-up and decay, \
               within 1e-7 of the peak, or within the rounding of a log. The judge derives the total number of updates \
               from the plan. Wherever a state gives the scheduler's step, it equals the number of updates.",
    does_not_verify: "That the optimizer uses the rate that it reports (seam/identical, partition/same-update). \
                      Parameter groups with learning rates of their own.",
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
    precision: Precision,
    /// The first update with a wrong rate.
    wrong: Option<u64>,
    /// The rates that were due, those that were there, and of those the wrong ones.
    due: Alike,
    found: Alike,
    wrongs: Alike,
    updates_of_an_epoch: u64,
}

/// Rates: the first one, and whether some are others.
#[derive(Default)]
struct Alike {
    first: Option<f64>,
    differ: bool,
    count: u64,
}

impl Alike {
    fn add(&mut self, rate: f64, tolerance: f64) {
        self.count += 1;
        self.differ |= (rate - *self.first.get_or_insert(rate)).abs() > tolerance;
    }
}

/// What a wrong schedule counts as a step.
#[derive(Clone, Copy)]
struct Counted {
    times: u64,
    more: i64,
    /// Steps more for each epoch that is over.
    per_epoch: u64,
}

impl Counted {
    const RIGHT: Self = Self { times: 1, more: 0, per_epoch: 0 };

    fn at(self, step: u64, updates_of_an_epoch: u64) -> u64 {
        let epochs = step.saturating_sub(1) / updates_of_an_epoch.max(1);
        let right = step.saturating_mul(self.times).saturating_add_signed(self.more);
        right.saturating_add(self.per_epoch.saturating_mul(epochs))
    }
}

impl Schedule {
    fn new(opening: &Opening) -> Self {
        let rates = Rates::of(opening.plan, opening.contract);
        let counts = Counts::of(opening.plan, opening.contract);
        let world = opening.plan.train.world.max(1);
        Self {
            rates,
            suspects: suspects(rates, &counts, world),
            peak: rates.peak.abs(),
            precision: opening.precision,
            wrong: None,
            due: Alike::default(),
            found: Alike::default(),
            wrongs: Alike::default(),
            updates_of_an_epoch: counts.updates_at(Cursor { epoch: 1, micro_batches: 0 }),
        }
    }

    fn fits(&self, found: f64, expected: f64) -> bool {
        (found - expected).abs() <= TOLERANCE * self.peak + self.precision.half_unit(found)
    }

    fn update(&mut self, it: &Update, line: &Line, sheet: &mut Sheet) {
        // Noted and not an error: a recorded loop may not expose its learning rate.
        if it.lr.is_empty() {
            sheet.blind("lr");
        }
        let expected = self.rates.at(it.step);
        let tolerance = TOLERANCE * self.peak;
        self.due.add(expected, 0.0);
        it.lr.first().into_iter().for_each(|lr| self.found.add(lr.0, tolerance));
        for &lr in &it.lr {
            if self.fits(lr.0, expected) {
                sheet.compared += 1;
                continue;
            }
            self.wrongs.add(lr.0, tolerance);
            let at = |counted: &Counted| counted.at(it.step, self.updates_of_an_epoch);
            let explaining =
                |(rates, counted, _): &(Rates, Counted, _)| self.fits(lr.0, rates.at(at(counted)));
            // One rate does not say where the schedule went wrong: a mistake is named if it gives each of the wrong ones.
            self.suspects = self.suspects.iter().copied().filter(explaining).collect();
            let first = *self.wrong.get_or_insert(it.step);
            let cause = self.cause(first, it.step);
            match &mut sheet.broken {
                Some(broken) if broken.at.event == "update" => {
                    sheet.compared += 1;
                    broken.cause = cause;
                }
                _ => {
                    let (expected, actual) = apart(Number(expected), lr);
                    sheet.check(false, line, || Difference {
                        expected: format!("lr {expected} at update {}", it.step),
                        actual,
                        component: Component::Schedule,
                        cause,
                    });
                }
            }
        }
    }

    /// What explains all wrong rates so far, from the update `first` to `last`.
    fn cause(&self, first: u64, last: u64) -> String {
        let Rates { warmup, total, peak, .. } = self.rates;
        let of_one_rate = self.wrongs.first.filter(|_| self.wrongs.count > 1 && !self.wrongs.differ);
        match (self.suspects.first(), of_one_rate) {
            _ if !self.found.differ && self.due.differ => {
                "the rate is the same at every update: scheduler.step() is missing, or what it computes does not reach the optimizer"
                    .into()
            }
            (Some((rates, _, what)), _) if rates.total != total => format!(
                "the rate is that of a schedule that ends at update {}, and not at {total}: {what}",
                rates.total
            ),
            (Some((.., what)), _) => format!("this is the rate that follows if {what}"),
            (None, Some(rate)) => format!(
                "the rate stays at {} from update {first} on, and the plan's schedule goes on: check for a least rate, and for \
                 an end that comes too early",
                Number(rate)
            ),
            (None, None) => format!(
                "the rates of updates {first} to {last} fit neither the plan's schedule ({warmup} warm-up updates, the end at update \
                 {total}, the highest rate {}) nor a known mistake",
                Number(peak)
            ),
        }
    }
}

/// Known mistakes with schedules, the most specific first: several can give the same rate at one update.
fn suspects(right: Rates, counts: &Counts, world: u64) -> Vec<(Rates, Counted, &'static str)> {
    let window = counts.accumulation;
    let total = |total: u64| Rates { total, ..right };
    let first = match right.first {
        FirstLr::Zero => FirstLr::Nonzero,
        FirstLr::Nonzero => FirstLr::Zero,
    };
    // Saturating: a plan may hold any number, and no number may make the judge panic.
    let micro_batches = counts.micro_batches.saturating_mul(counts.epochs);
    vec![
        (Rates { first, ..right }, Counted::RIGHT, "the warm-up is off by one update"),
        (
            total(micro_batches),
            Counted::RIGHT,
            "the total counts micro-batches: it is not divided by the accumulation steps",
        ),
        (total(right.total / window), Counted::RIGHT, "the total is divided by the accumulation steps twice"),
        (
            total(micro_batches.div_ceil(window)),
            Counted::RIGHT,
            "the total is rounded up once for all epochs together",
        ),
        (
            total(micro_batches / window),
            Counted::RIGHT,
            "the total is rounded down once for all epochs together",
        ),
        (
            total(counts.epochs.saturating_mul(counts.micro_batches.div_ceil(window))),
            Counted::RIGHT,
            "the total counts an update of the partial last window per epoch, which the loop does not make",
        ),
        (
            total(counts.epochs.saturating_mul(counts.micro_batches / window)),
            Counted::RIGHT,
            "the total leaves out the update of each epoch's partial last window",
        ),
        (
            total(right.total.saturating_mul(world)),
            Counted::RIGHT,
            "the total is multiplied by the number of processes",
        ),
        (total(right.total / world), Counted::RIGHT, "the total is divided by the number of processes"),
        (right, Counted { times: window, ..Counted::RIGHT }, "scheduler.step() runs at every micro-batch"),
        (
            right,
            Counted { times: world, ..Counted::RIGHT },
            "scheduler.step() runs once per rank at every update",
        ),
        (
            right,
            Counted { per_epoch: 1, ..Counted::RIGHT },
            "scheduler.step() runs once more at the end of each epoch",
        ),
        (right, Counted { more: 1, ..Counted::RIGHT }, "the scheduler is one step ahead of the updates"),
        (right, Counted { more: -1, ..Counted::RIGHT }, "the scheduler is one step behind the updates"),
    ]
}

/// Two rates with as many digits as tell them apart.
fn apart(expected: Number, found: Number) -> (String, String) {
    let short = (expected.to_string(), found.to_string());
    if short.0 == short.1 { (format!("{expected:?}"), format!("{found:?}")) } else { short }
}

fn state(it: &State, line: &Line, sheet: &mut Sheet) {
    let Some(taken) = it.schedule_step else {
        return sheet.missing("schedule_step");
    };
    sheet.check(taken == it.step, line, || Difference {
        expected: format!("{} scheduler steps, one per update", it.step),
        actual: taken.to_string(),
        component: Component::Schedule,
        cause: if it.at == Moment::Loaded {
            "the scheduler's step was not restored".into()
        } else {
            "scheduler.step() does not run once per update".into()
        },
    });
}

impl TraceRule for Schedule {
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
    #[case(1, 0.0, "the warm-up is off by one update")]
    // 14 micro-batches in place of 6 updates: (14 - 4) / 12.
    #[case(4, 1e-3 * 10.0 / 12.0, "it is not divided by the accumulation")]
    #[case(1, 1e-3 * 3.0 / 4.0, "every micro-batch")]
    // A total of 14 / 3 rounded up is 5: (5 - 4) / 3.
    #[case(4, 1e-3 / 3.0, "rounded up")]
    #[case(4, 7e-4, "fit neither the plan's schedule")]
    fn a_wrong_rate_breaks_and_is_explained(#[case] step: u64, #[case] lr: f64, #[case] cause: &str) {
        let mut events = whole();
        update_at(&mut events, step).lr = vec![Number(lr)];
        let found = breaks(judge(RULE.name, &events), "schedule");
        assert!(found.contains(cause), "{found}");
    }

    /// Peak 1e-3, 6 updates, 3 in each of two epochs.
    #[rstest]
    #[case::a_least_rate(|step, right: f64| if step > 4 { right.max(4e-4) } else { right }, "stays at 0.000400 from update 5 on")]
    #[case::a_jump_after_the_warm_up(|step, right| if step < 3 { 0.9 * right } else { right }, "of updates 1 to 2 fit neither")]
    #[case::once_more_per_epoch(|step, right: f64| (right - 0.25e-3 * f64::from(step > 3)).max(0.0), "once more at the end of each epoch")]
    fn wrong_rates_are_explained_together(#[case] wrong: fn(u64, f64) -> f64, #[case] cause: &str) {
        let mut events = whole();
        for step in 1..=6 {
            let lr = &mut update_at(&mut events, step).lr[0];
            lr.0 = wrong(step, lr.0);
        }
        let found = breaks(judge(RULE.name, &events), "schedule");
        assert!(found.contains(cause), "{found}");
    }

    #[test]
    fn rates_that_differ_in_their_last_digits_are_shown_whole() {
        let mut events = whole();
        update_at(&mut events, 3).lr[0].0 *= 1.0 + 4e-7;
        let broken = judge(RULE.name, &events).broken.expect("a finding");
        assert!(!broken.expected.contains(&format!("lr {} at", broken.actual)), "{broken:?}");
    }

    #[test]
    fn a_rate_that_never_changes_is_told() {
        let mut events = whole();
        for step in 1..=6 {
            update_at(&mut events, step).lr = vec![Number(0.5e-3)];
        }
        let found = breaks(judge(RULE.name, &events), "schedule");
        assert!(found.contains("the rate is the same at every update"), "{found}");
    }

    #[test]
    fn a_schedule_that_was_not_restored_breaks() {
        let mut events = cut_at(at(1, 2)).remove(1);
        state_at(&mut events, Moment::Loaded).schedule_step = Some(0);
        assert_eq!(breaks(judge(RULE.name, &events), "schedule"), "the scheduler's step was not restored");
    }
}
