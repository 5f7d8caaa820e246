//! Jumps: growth that comes at once and stays, taken out of a series and judged by itself.
//!
//! A pool that grew once is not a leak and a pool that grows every so often is. Jumps that recur count at their rate;
//! jumps that came once or twice do not; between the two nothing is shown, and the interval says so.

use super::Growth;
use super::recur::{Rate, perhaps, rate};
use super::robust::{increments, median, skewness, spread};
use super::tail::growth_of_tail;
use crate::series::Point;

/// An increment is an outlier where it is this many spreads off the median of all (Hampel's rule, on the careful side).
const OUTLYING: f64 = 6.0;
/// An outlier below this share of what the limit allows over the whole run cannot change a verdict.
const MATERIAL_SHARE: f64 = 0.05;
/// In a series without noise, growth next to a jump that is smaller than this share of the jump is counted separately.
const BESIDE: f64 = 0.1;
/// More outliers in a row than this are a ramp and not a jump.
const LONGEST_JUMP: usize = 3;
/// A jump that does not recur is separate if it is this many times the largest other increment.
const APART: f64 = 2.0;
/// Increments come in lumps where they are skewed by more than this; those of smooth growth under noise are not.
const LUMPY: f64 = 1.5;
/// Lumps that sum to less than this share of the jumps are not counted with them.
const LUMPS: f64 = 0.25;
/// Growth in this first part of the run is warm-up.
const WARM_UP: f64 = 0.4;

/// A jump, as increments of a series.
#[derive(Clone, Copy, Debug)]
struct Jump {
    first: usize,
    last: usize,
    /// The bytes that it adds beyond the usual increments.
    bytes: f64,
}

/// The growth of a series that gives nothing back: its jumps, where they recur, and the rest.
pub fn growth(points: &[Point], limit: f64) -> Growth {
    let span = points[points.len() - 1].step - points[0].step;
    let gained = increments(points);
    let usual = median(&gained);
    let all = jumps(&gained, usual, MATERIAL_SHARE * limit * span);
    let (rest, late) = (without(&gained, usual, &all), (WARM_UP * gained.len() as f64) as usize);
    let largest = rest[late..].iter().map(|gain| (gain - usual).abs()).fold(0.0, f64::max);
    let mut taken = Vec::new();
    let mut rates = Vec::new();
    for sign in [1.0, -1.0] {
        let mut mine: Vec<Jump> = all.iter().filter(|jump| jump.bytes * sign > 0.0).copied().collect();
        let sized = |jumps: &[Jump]| -> Vec<Point> {
            let size = |jump: &Jump| Point { step: points[jump.last + 1].step, bytes: sign * jump.bytes };
            jumps.iter().map(size).collect()
        };
        let (begin, end) = (points[0].step, points[points.len() - 1].step);
        let mut found = rate(&sized(&mine), begin, end);
        if !found.recurs {
            mine.retain(|jump| jump.bytes.abs() > APART * largest);
            found = rate(&sized(&mine), begin, end);
            let late = Late { gained: &rest[late..], first: late };
            if !found.recurs && found.due.is_none() && late.grows_in_lumps(&mine, sign) {
                found = perhaps(&sized(&mine), begin, end);
            }
        }
        taken.extend(mine);
        rates.push(found);
    }
    let mut level = points.to_vec();
    for (at, gain) in without(&gained, usual, &taken).iter().enumerate() {
        level[at + 1].bytes = level[at].bytes + gain;
    }
    let [up, down]: [Rate; 2] = [rates[0], rates[1]];
    let tail = growth_of_tail(&level, limit);
    Growth {
        slope: tail.slope + up.rate - down.rate,
        low: tail.low + up.low - down.high,
        high: tail.high + up.high - down.low,
        from: if up.recurs { up.from.min(tail.from) } else { tail.from },
        once: if up.recurs { 0 } else { taken.iter().filter(|jump| jump.bytes > 0.0).count() },
        recurs: up.recurs,
        period: up.period,
        due: up.due,
    }
}

/// The growth late in a run apart from its jumps.
struct Late<'a> {
    gained: &'a [f64],
    /// The first increment of it.
    first: usize,
}

impl Late<'_> {
    /// Tells repeated growth from a memory pool that grew once: large lumps beside the jumps mean that the jumps may be
    /// the largest of many.
    fn grows_in_lumps(&self, jumps: &[Jump], sign: f64) -> bool {
        let jumps: f64 =
            jumps.iter().filter(|jump| jump.last >= self.first).map(|jump| jump.bytes.abs()).sum();
        sign * self.gained.iter().sum::<f64>() > LUMPS * jumps && sign * skewness(self.gained) > LUMPY
    }
}

/// Runs of outlying increments. An increment beside one, of the same sign, belongs to it though it be small: a jump
/// within a block shows in two increments.
fn jumps(gained: &[f64], usual: f64, material: f64) -> Vec<Jump> {
    let outlying = (OUTLYING * spread(gained)).max(BESIDE * material);
    let excess: Vec<f64> = gained.iter().map(|gain| gain - usual).collect();
    let same = |at: usize, sign: f64| excess[at] * sign > outlying;
    let mut found: Vec<Jump> = Vec::new();
    let mut at = 0;
    while at < excess.len() {
        let sign = excess[at].signum();
        if excess[at].abs() <= outlying.max(material) {
            at += 1;
            continue;
        }
        let free = found.last().is_none_or(|before| before.last + 1 < at);
        let first = if at > 0 && free && same(at - 1, sign) { at - 1 } else { at };
        let last = (at..excess.len()).take_while(|next| same(*next, sign)).last().unwrap_or(at);
        if last - first < LONGEST_JUMP {
            found.push(Jump { first, last, bytes: excess[first..=last].iter().sum() });
        }
        at = last + 1;
    }
    found
}

/// The increments, with the usual one in the place of each of a jump.
fn without(gained: &[f64], usual: f64, jumps: &[Jump]) -> Vec<f64> {
    let mut rest = gained.to_vec();
    for jump in jumps {
        rest[jump.first..=jump.last].fill(usual);
    }
    rest
}
