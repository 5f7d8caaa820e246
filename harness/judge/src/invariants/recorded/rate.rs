//! `loop/rate`: each update has the rate that the declared schedule gives.

use std::collections::BTreeMap;

use traintrue_protocol::number::Number;
use traintrue_protocol::trace::event::Update;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use super::seen::{Optimizers, number};
use crate::finding::{Difference, Sheet};
use crate::invariants::training::schedule::TOLERANCE;
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

/// More steps of a schedule per update are not looked for.
const STEPS_MOST: usize = 64;

/// So many updates after the first wrong one are held in memory, to find its cause.
const FOLLOWED_MOST: usize = 1 << 14;

pub(crate) static RULE: Rule = Rule {
    name: "loop/rate",
    says: "each update has the learning rate of the declared schedule",
    verifies: "Each parameter group's rate at each update equals what the declared form, function, list or scheduler \
               gives for it, within 1e-7 of the highest declared rate.",
    does_not_verify: "That the optimizer uses the rate that it reports. Updates after a skipped one, if the loop's \
                      schedule counts skipped updates and the declared one does not.",
    kind: Kind::Trace(|opening| Box::new(DeclaredRates::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Schedule,
    needs: &[Fact::Observed, Fact::Rates],
};

struct DeclaredRates {
    optimizers: Optimizers,
    open: BTreeMap<u64, Seen>,
}

/// The updates of one optimizer.
#[derive(Default)]
struct Seen {
    updates: Vec<Rates>,
    micro_batches: u64,
    highest: f64,
    wrong: Option<Wrong>,
    skipped: bool,
    ended: bool,
}

/// One update.
struct Rates {
    declared: Vec<f64>,
    actual: Vec<f64>,
    /// Steps of a schedule that counts micro-batches, by whether it steps after each, is set before each window, or
    /// steps before the update too.
    steps: [u64; 3],
}

/// The first update with a wrong rate.
struct Wrong {
    line: Line,
    at: usize,
    group: usize,
}

fn values(numbers: &[Number]) -> Vec<f64> {
    numbers.iter().map(|it| it.0).collect()
}

impl DeclaredRates {
    fn new(opening: &Opening) -> Self {
        Self { optimizers: Optimizers::of(opening), open: BTreeMap::new() }
    }

    fn update(&mut self, it: &Update, line: &Line, sheet: &mut Sheet) {
        let Some(since) = it.since.as_deref() else { return sheet.missing("since of an update") };
        let seen = self.open.entry(number(it)).or_default();
        let before = seen.micro_batches;
        seen.micro_batches = before.saturating_add(since.micro_batches);
        if !it.applied {
            seen.skipped = true;
            return;
        }
        if since.declared.is_empty() {
            seen.ended = true;
            return;
        }
        if it.lr.len() != since.declared.len() {
            return sheet.missing("a rate of each group");
        }
        let rates = Rates {
            declared: values(&since.declared),
            actual: values(&it.lr),
            steps: [seen.micro_batches.saturating_sub(1), before, seen.micro_batches],
        };
        seen.add(rates, line, sheet);
    }
}

impl Seen {
    fn fits(&self, found: f64, expected: f64) -> bool {
        (found - expected).abs() <= TOLERANCE * self.highest
    }

    fn add(&mut self, rates: Rates, line: &Line, sheet: &mut Sheet) {
        self.highest = rates.declared.iter().fold(self.highest, |most, it| most.max(it.abs()));
        if let Some(wrong) = &self.wrong {
            if self.updates.len() - wrong.at < FOLLOWED_MOST {
                self.updates.push(rates);
            }
            return;
        }
        let pairs = rates.declared.iter().zip(&rates.actual);
        match pairs.clone().position(|(declared, actual)| !self.fits(*actual, *declared)) {
            Some(group) => {
                self.wrong = Some(Wrong { line: line.clone(), at: self.updates.len(), group });
            }
            None => sheet.compared += rates.declared.len() as u64,
        }
        self.updates.push(rates);
    }

    fn difference(&self, wrong: &Wrong, of: &str) -> Difference {
        let rates = &self.updates[wrong.at];
        let group = match rates.declared.len() {
            1 => String::new(),
            _ => format!(" in group {}", wrong.group),
        };
        Difference {
            expected: format!(
                "lr {} at update {}{of}{group}",
                Number(rates.declared[wrong.group]),
                wrong.at + 1
            ),
            actual: format!("{}", Number(rates.actual[wrong.group])),
            component: Component::Schedule,
            cause: self.cause(wrong),
        }
    }

    /// The mistake that explains the first wrong rate and all rates after it.
    fn cause(&self, wrong: &Wrong) -> String {
        let declared = |at: usize| self.updates.get(at).and_then(|it| it.declared.get(wrong.group)).copied();
        let actual = |at: usize| self.updates.get(at).and_then(|it| it.actual.get(wrong.group)).copied();
        let later = wrong.at..self.updates.len();
        // A mistake is named if it gives each of the rates, and at least two.
        let explains = |expected: &dyn Fn(usize) -> Option<f64>| {
            let pairs = later.clone().filter_map(|at| actual(at).zip(expected(at)));
            let fitting = pairs.clone().filter(|(found, expected)| self.fits(*found, *expected)).count();
            fitting >= 2 && fitting == pairs.count()
        };
        let first = actual(0);
        let never = |_: usize| first;
        let counting = |which: usize| {
            let steps = move |at: usize| usize::try_from(self.updates[at].steps[which]).unwrap_or(usize::MAX);
            explains(&|at| declared(steps(at)))
        };
        let ratio = actual(wrong.at).zip(declared(wrong.at)).map(|(found, expected)| found / expected);
        let scaled = |at: usize| declared(at).zip(ratio).map(|(expected, ratio)| expected * ratio);
        if explains(&never) {
            "the rate never changes: scheduler.step() is missing, or steps another optimizer's schedule"
                .into()
        } else if explains(&|at| declared(at + 1)) {
            "the schedule is one step ahead of the updates".into()
        } else if explains(&|at| at.checked_sub(1).and_then(declared)) {
            "the schedule is one step behind the updates".into()
        } else if (0..3).any(counting) {
            "these are the rates that follow if the schedule steps at every micro-batch".into()
        } else if let Some(each) =
            (2..=STEPS_MOST).find(|each| (0..=*each).any(|begin| explains(&|at| declared(each * at + begin))))
        {
            format!("these are the rates that follow if the schedule steps {each} times per update")
        } else if let Some(ratio) = ratio.filter(|it| it.is_finite() && explains(&scaled)) {
            format!("each rate from there on is {ratio:.4} times the declared one")
        } else {
            "the rates fit neither the declared schedule nor a known mistake with it".into()
        }
    }
}

impl TraceRule for DeclaredRates {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        if let Event::Update(it) = &line.event {
            self.update(it, line, sheet);
        }
    }

    fn finish(&mut self, _last: &Line, sheet: &mut Sheet) {
        for (&optimizer, seen) in &self.open {
            let of = self.optimizers.suffix(optimizer);
            match &seen.wrong {
                // A schedule that also counts skipped updates is ahead of one that does not, and both are common.
                Some(_) if seen.skipped => {
                    sheet.cannot(&format!("rates{of}: some updates were skipped, and may count as steps"))
                }
                Some(wrong) => {
                    sheet.check(false, &wrong.line, || seen.difference(wrong, &of));
                }
                None => {}
            }
            if seen.ended {
                sheet.cannot(&format!(
                    "rates{of} after update {}: the declared list ends",
                    seen.updates.len()
                ));
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::invariants::recorded::testing::*;
    use crate::testing::{breaks, judge};

    /// Nine updates in three epochs; the declared rate falls by 1e-3 with each, and the loop's is `actual`.
    fn falling(actual: fn(f64) -> f64) -> Vec<Event> {
        let rate = |steps: f64| 1e-2 - 1e-3 * steps;
        let mut events = clean(Shape::default());
        recorded(&mut events).rates = Some("a function".into());
        for it in updates(&mut events) {
            let before = (it.step - 1) as f64;
            since(it).declared = vec![Number(rate(before))];
            it.lr = vec![Number(actual(rate(before)))];
        }
        events
    }

    fn skipped(mut events: Vec<Event>) -> Vec<Event> {
        updates(&mut events).take(1).for_each(|it| it.applied = false);
        events
    }

    /// The declared list ends after five updates.
    fn short(mut events: Vec<Event>) -> Vec<Event> {
        updates(&mut events).skip(5).for_each(|it| since(it).declared.clear());
        events
    }

    #[rstest]
    #[case::as_declared(falling(|rate| rate))]
    #[case::stored_in_single_precision(falling(|rate| f64::from(rate as f32)))]
    #[case::after_a_skipped_update(skipped(falling(|rate| rate - 1e-3)))]
    #[case::a_list_that_ends(short(falling(|rate| rate)))]
    fn what_right_loops_do_is_no_accusation(#[case] events: Vec<Event>) {
        let sheet = judge(RULE.name, &events);
        assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
    }

    #[rstest]
    #[case::never(|_| 1e-2, "the rate never changes")]
    #[case::ahead(|rate| rate - 1e-3, "one step ahead")]
    #[case::behind(|rate| rate + 1e-3, "one step behind")]
    // Three steps before the first update of four micro-batches, and four more with each.
    #[case::per_micro_batch(|rate| 7e-3 - 4.0 * (1e-2 - rate), "at every micro-batch")]
    #[case::of_the_window(|rate| 1e-2 - 4.0 * (1e-2 - rate), "at every micro-batch")]
    #[case::twice(|rate| 2.0 * rate, "2.0000 times")]
    #[case::of_another_form(|rate| rate * rate, "fit neither")]
    fn a_wrong_rate_breaks_with_its_cause(#[case] actual: fn(f64) -> f64, #[case] cause: &str) {
        let found = breaks(judge(RULE.name, &falling(actual)), "schedule");
        assert!(found.contains(cause), "{found}");
    }

    #[test]
    fn a_group_with_a_wrong_rate_is_named() {
        let mut events = falling(|rate| rate);
        for it in updates(&mut events) {
            since(it).declared.push(Number(1e-3));
            it.lr.push(Number(2e-3));
        }
        let sheet = judge(RULE.name, &events);
        let broken = sheet.broken.as_ref().expect("a finding");
        assert!(format!("{broken:?}").contains("in group 1"), "{broken:?}");
    }
}
