//! Learning rates over a thousand steps, against transformers' schedules: the trainer's, and the judge's closed form.

use rstest::rstest;
use serde::Deserialize;
use traintrue_judge::arithmetic::Rates;
use traintrue_protocol::contract::FirstLr;
use traintrue_protocol::plan::{Schedule, ScheduleName};

use super::golden::{faulty, parts, read};
use crate::parts::Parts;

#[derive(Deserialize)]
struct Schedules {
    schedules: Vec<Golden>,
}

#[derive(Deserialize)]
struct Golden {
    name: ScheduleName,
    warmup: u64,
    updates: u64,
    /// Of a peak of 1, after 0, 1, … steps.
    rates: Vec<f64>,
}

/// The rates have fifteen digits: they are off by at most 5e-16. With `u` = 1.1e-16, half of a cosine is off by 6.5 u: its
/// argument, at most pi, is rounded three times, and so are its value and the sum. That is so on both sides.
const TOLERANCE: f64 = 5e-16 + 2.0 * 6.5 * f64::EPSILON / 2.0;

/// The largest distance from a golden's rates of what `rate` says after so many steps.
fn off(golden: &Golden, rate: impl Fn(u64) -> f64) -> f64 {
    assert_eq!(golden.rates.len(), 1000);
    let of = |(steps, golden): (usize, &f64)| (rate(steps as u64) - golden).abs();
    golden.rates.iter().enumerate().map(of).fold(0.0, f64::max)
}

/// The largest distance of the trainer's rates, over all schedules.
fn the_trainer_is_off(parts: &Parts<crate::engine::Cpu>) -> f64 {
    let of = |golden: &Golden| {
        let schedule = Schedule { name: golden.name, warmup: golden.warmup, updates: Some(golden.updates) };
        off(golden, |steps| (parts.schedule.multiplier)(&schedule, steps as f64, golden.updates as f64))
    };
    read::<Schedules>("schedules").schedules.iter().map(of).fold(0.0, f64::max)
}

#[test]
fn the_trainers_rates_are_transformers() {
    assert!(the_trainer_is_off(&parts(|_| {})) <= TOLERANCE);
}

#[test]
fn the_judges_rates_are_transformers() {
    for golden in read::<Schedules>("schedules").schedules {
        let (form, warmup, total) = (golden.name, golden.warmup, golden.updates);
        let rates = Rates { peak: 1.0, form, warmup, total, first: FirstLr::Zero };
        assert!(off(&golden, |steps| rates.at(steps + 1)) <= TOLERANCE, "{form:?}");
    }
}

#[rstest]
#[case::a_step_late_in_the_warm_up(faulty("warmup-off-by-one"))]
#[case::the_warm_up_is_no_part_of_the_total(parts(|parts| {
    let late = |schedule: &Schedule, x, total: f64| {
        crate::schedule::multiplier(schedule, x, total + schedule.warmup as f64)
    };
    parts.schedule.multiplier = late;
}))]
fn wrong_rates_are_not_transformers(#[case] parts: Parts<crate::engine::Cpu>) {
    assert!(the_trainer_is_off(&parts) > TOLERANCE);
}
