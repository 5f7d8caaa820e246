//! Whether jumps recur, and at which rate.
//!
//! Only the last part of a run tells: a pool settles by jumps that come ever more rarely. There, jumps of one size at one
//! distance are a renewal process whose rate is size over distance; many jumps of any size are a compound Poisson process,
//! whose rate has the variance of the sum of their squares over the square of the time.

use super::Period;
use super::robust::{median, variation};
use crate::series::Point;

/// The part of the run that is not looked at: pools settle there.
const SETTLING: f64 = 0.4;
/// The part that is not looked at though the rest agrees with what follows.
const START: f64 = 0.15;
/// Fewer jumps in the last part than this do not recur, unless at one distance.
const MANY: usize = 6;
/// As many in the last part are one or two growths of a pool.
const FEW: usize = 2;
/// A jump larger than this many medians is a pool's, among at most [`FEW`].
const ODD: f64 = 3.0;
/// Jumps within these shares of the median size are of one size.
const ONE_SIZE: std::ops::RangeInclusive<f64> = 0.7..=1.4;
/// Sizes are equal where they vary less than this (relative standard deviation).
const EQUAL: f64 = 0.1;
/// A rate at one distance is known this well.
const REGULAR_ERROR: f64 = 0.15;
/// Jumps are stairs where the growth since the jump before varies by less than this (relative standard deviation).
const STAIRS: f64 = 0.1;
/// The next stair is overdue after this many of the waits before it.
const OVERDUE: f64 = 1.6;
/// One-sided 95 % of a normal distribution.
const NORMAL_95: f64 = 1.645;

/// Growth by jumps, in bytes per step.
#[derive(Clone, Copy, Debug, Default)]
pub struct Rate {
    pub low: f64,
    pub rate: f64,
    pub high: f64,
    /// Whether the jumps are shown to recur.
    pub recurs: bool,
    /// If they do, and are of one size at one distance.
    pub period: Option<Period>,
    /// If they may: the steps after which one more would show it.
    pub due: Option<f64>,
    /// The step at which they begin.
    pub from: f64,
}

/// The rate of jumps of one sign, each with its step and its size, over a run from `begin` to `end`.
pub fn rate(jumps: &[Point], begin: f64, end: f64) -> Rate {
    let settled = begin + SETTLING * (end - begin);
    let late: Vec<Point> = jumps.iter().copied().filter(|jump| jump.step > settled).collect();
    if late.len() <= FEW {
        return stairs(jumps, begin, end).unwrap_or_default();
    }
    let size = median(&late.iter().map(|jump| jump.bytes).collect::<Vec<_>>());
    regular(&late, size, settled, end).unwrap_or_else(|| {
        let mut largest = late.clone();
        largest.sort_by(|a, b| b.bytes.total_cmp(&a.bytes));
        let odd = largest.iter().take(FEW).take_while(|jump| jump.bytes > ODD * size).count();
        irregular(&largest[odd..], jumps, begin, end)
    })
}

/// The rate of jumps of one size at one distance: from the last (or the one before, where a pool grew last) back, most of
/// the expected places must have their jump.
fn regular(late: &[Point], size: f64, settled: f64, end: f64) -> Option<Rate> {
    let sized = |jump: &&Point| ONE_SIZE.contains(&(jump.bytes / size));
    let alike: Vec<f64> = late.iter().filter(sized).map(|jump| jump.step).collect();
    if alike.len() <= FEW {
        return None;
    }
    let wait = median(&alike.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<_>>());
    let recent = alike.iter().rev().take(2).filter(|step| end - **step < 1.6 * wait);
    let (met, missed, from) =
        recent.map(|last| walk_back(late, size, wait, *last)).max_by_key(|(met, missed, _)| {
            i64::try_from(*met).unwrap_or(0) - i64::try_from(*missed).unwrap_or(0)
        })?;
    let expected = (end - settled) / wait;
    let strangers = late.len() - met;
    // Three of a pool's growths can lie at one distance by chance, but hardly at one size as well.
    let sizes: Vec<f64> = late.iter().filter(sized).map(|jump| jump.bytes).collect();
    let enough = met > FEW + 1 || met > FEW && variation(&sizes) < EQUAL;
    let holds = enough
        && 4 * missed <= met
        && (met + missed) as f64 >= 0.6 * expected
        && strangers <= (met / 2).max(3);
    let rate = size / wait;
    let (low, high) = ((1.0 - REGULAR_ERROR) * rate, (1.0 + REGULAR_ERROR) * rate);
    let period = Some(Period { bytes: size, steps: wait });
    holds.then_some(Rate { low, rate, high, recurs: true, period, due: None, from })
}

/// How many of the places that lie `wait` apart before the step `last` have a jump, how many have none, and the first step.
fn walk_back(late: &[Point], size: f64, wait: f64, last: f64) -> (usize, usize, f64) {
    let (mut met, mut missed, mut at) = (1, 0, last);
    while at - 0.75 * wait >= late[0].step && missed <= met {
        let place = at - wait;
        let near = late
            .iter()
            .filter(|jump| (jump.step - place).abs() < 0.25 * wait && jump.bytes >= ONE_SIZE.start() * size);
        match near.min_by(|a, b| (a.step - place).abs().total_cmp(&(b.step - place).abs())) {
            Some(jump) => (met, at) = (met + 1, jump.step),
            None => (missed, at) = (missed + 1, place),
        }
    }
    (met, missed, at)
}

/// Stairs over the whole run: each jump is as large as the wait before it is long. Three of one size recur. Two may, and so
/// may those that double, size and wait alike, as a list does that is never emptied.
fn stairs(jumps: &[Point], begin: f64, end: f64) -> Option<Rate> {
    let (first, [.., before, last]) = (jumps.first()?, jumps) else { return None };
    let sizes: Vec<f64> = jumps.iter().map(|jump| jump.bytes).collect();
    let gained = jumps.windows(2).map(|pair| pair[1].bytes / (pair[1].step - pair[0].step));
    let (rates, wait) = (gained.collect::<Vec<_>>(), last.step - before.step);
    let (equal, rate) = (variation(&sizes) < EQUAL, median(&rates));
    // A doubling waits twice as long as the one before it did.
    let next = wait * if equal { 1.0 } else { (last.bytes / before.bytes).max(1.0) };
    let from_the_start = (0.5..=OVERDUE).contains(&((first.step - begin) / wait));
    let lasts = end - last.step < OVERDUE * next && variation(&rates) < STAIRS;
    let (enough, few) = (jumps.len() > FEW, jumps.len() == FEW && equal && from_the_start);
    let high = (1.0 + REGULAR_ERROR) * rate;
    match () {
        () if !lasts => None,
        () if enough && equal => {
            let period = Some(Period { bytes: median(&sizes), steps: wait });
            Some(Rate {
                low: (1.0 - REGULAR_ERROR) * rate,
                rate,
                high,
                recurs: true,
                period,
                due: None,
                from: begin,
            })
        }
        () if enough || few => {
            let due = (last.step + OVERDUE * next - end).max(0.0);
            Some(Rate { rate, high, due: Some(due), ..Rate::default() })
        }
        () => None,
    }
}

/// The rate of jumps that may recur and may not.
pub fn perhaps(jumps: &[Point], begin: f64, end: f64) -> Rate {
    let settled = begin + SETTLING * (end - begin);
    let late = || jumps.iter().filter(|jump| jump.step > settled).map(|jump| jump.bytes);
    let (bytes, squares) = (late().sum::<f64>(), late().map(|bytes| bytes * bytes).sum::<f64>());
    let span = end - settled;
    Rate { high: (bytes + NORMAL_95 * squares.sqrt()) / span, rate: bytes / span, ..Rate::default() }
}

/// The rate of jumps that come at no one distance: shown where they are many and leave no long gap.
fn irregular(late: &[Point], all: &[Point], begin: f64, end: f64) -> Rate {
    let settled = begin + SETTLING * (end - begin);
    let tally = |jumps: &[Point]| {
        let squares = jumps.iter().map(|jump| jump.bytes.powi(2)).sum::<f64>();
        (jumps.iter().map(|jump| jump.bytes).sum::<f64>(), squares)
    };
    let ((bytes, squares), span) = (tally(late), end - settled);
    let mut steps: Vec<f64> = late.iter().map(|jump| jump.step).chain([settled, end]).collect();
    steps.sort_by(f64::total_cmp);
    let gap = steps.windows(2).map(|pair| pair[1] - pair[0]).fold(0.0, f64::max);
    if late.len() <= FEW {
        return Rate::default();
    }
    if late.len() < MANY || gap >= 0.4 * span {
        return perhaps(late, begin, end);
    }
    let start = begin + START * (end - begin);
    let early: Vec<Point> =
        all.iter().copied().filter(|jump| jump.step > start && jump.step <= settled).collect();
    let ((more, more_squares), before) = (tally(&early), settled - start);
    let differ = (more / before - bytes / span).abs();
    let alike = differ < 1.5 * (more_squares / before.powi(2) + squares / span.powi(2)).sqrt();
    let (bytes, squares, span, from) = if early.len() >= FEW && alike {
        (bytes + more, squares + more_squares, span + before, start)
    } else {
        (bytes, squares, span, settled)
    };
    let error = NORMAL_95 * squares.sqrt();
    Rate {
        low: (bytes - error) / span,
        rate: bytes / span,
        high: (bytes + error) / span,
        recurs: true,
        period: None,
        due: None,
        from,
    }
}
