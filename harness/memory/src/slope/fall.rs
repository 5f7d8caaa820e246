//! What memory gives back: spikes that end, and collections that fall due.
//!
//! Memory that is given back is not growth, however fast it rose. Two shapes of it need different treatment. A *spike* (an
//! evaluation at an epoch's end) rises at once and falls by as much: the low-water mark, the least that is held from here
//! over the next so many steps, does not see it. A *collapse* of a garbage collector gives back what crept in since the
//! one before: spread over that wait it cancels the creep, and what is left is the growth beneath.

use super::Scale;
use super::robust::{increments, median};
use crate::series::Point;

/// A fall is sudden where it is this many spreads of the increments.
const SUDDEN: f64 = 8.0;
/// Falls below these shares of what the limit allows over the whole run cannot change a verdict.
const SPIKE_SHARE: f64 = 0.02;
const COLLAPSE_SHARE: f64 = 0.04;
/// An excursion that lasts longer than this part of the run is no excursion.
const LONGEST: usize = 3;
/// A tooth is as the others where it creeps at these multiples of their median rate.
const ALIKE: std::ops::RangeInclusive<f64> = 0.75..=1.33;
/// A tooth creeps where at least this share of it came gradually.
const GRADUAL: f64 = 0.5;
/// A saw whose last collapse is longer ago than this many of its longest waits has ended.
const OVERDUE: f64 = 2.5;
/// A fall below this share of the largest is none of the saw's.
const SMALL: f64 = 0.25;
/// Collapses nearer to each other than this are no teeth of a saw.
const SHORTEST_TOOTH: usize = 3;

/// A sudden fall.
struct Fall {
    /// The point before it.
    at: usize,
    /// What is given back.
    bytes: f64,
    /// For how many points more than this was held; none where it never was less.
    width: Option<usize>,
    /// Whether it came in one rise of the same size.
    spike: bool,
}

fn falls(points: &[Point], scale: &Scale, share: f64) -> Vec<Fall> {
    let gained = increments(points);
    let least = (SUDDEN * scale.noise).max(share * scale.allowed());
    let usual = median(&gained);
    let sudden = (0..gained.len()).filter(|at| gained[*at] - usual < -least);
    let falls = sudden.map(|at| {
        let bytes = -gained[at];
        let level = points[at + 1].bytes + (2.0 * scale.noise).max(0.15 * bytes);
        let before = points[..=at].iter().rposition(|point| point.bytes <= level);
        let width = before.map(|before| at - before);
        let rise =
            before.map(|before| gained[before..(before + 3).min(at)].iter().copied().fold(0.0, f64::max));
        Fall { at, bytes, width, spike: rise.is_some_and(|rise| (0.7..=1.4).contains(&(rise / bytes))) }
    });
    falls.collect()
}

/// The points without spikes and narrow excursions: at each, the least that is held from it on for the longest of them.
pub fn without_spikes(points: &[Point], scale: &Scale) -> Vec<Point> {
    let falls = falls(points, scale, SPIKE_SHARE);
    let spikes = falls.iter().filter(|fall| fall.spike).filter_map(|fall| fall.width);
    let wide = spikes.filter(|width| (1..=points.len() / LONGEST).contains(width)).max();
    low_water(points, wide.map_or(0, |width| width + 1))
}

/// The points without the teeth of a saw: each collapse is spread over the wait before it. None where the falls are not of
/// one saw.
pub fn without_teeth(points: &[Point], scale: &Scale) -> Option<Vec<Point>> {
    let mut falls = falls(points, scale, COLLAPSE_SHARE);
    let largest = falls.iter().map(|fall| fall.bytes).fold(0.0, f64::max);
    falls.retain(|fall| fall.bytes > SMALL * largest);
    let [first, .., last] = falls.as_slice() else { return Some(points.to_vec()) };
    let teeth: Vec<Tooth> = falls.windows(2).map(|pair| Tooth::of(points, &pair[0], &pair[1])).collect();
    let of_all = |value: fn(&Tooth) -> f64| median(&teeth.iter().map(value).collect::<Vec<_>>());
    let rate = of_all(Tooth::rate);
    let unlike = teeth.iter().filter(|tooth| !ALIKE.contains(&(tooth.rate() / rate))).count();
    let steps = |from: usize, to: usize| points[to].step - points[from].step;
    let longest = teeth.iter().map(|tooth| tooth.steps).fold(0.0, f64::max);
    let (end, short) = (points.len() - 1, teeth.iter().any(|tooth| tooth.to - tooth.from < SHORTEST_TOOTH));
    if short
        || 3 * unlike > teeth.len()
        || of_all(|tooth| tooth.crept) < GRADUAL
        || steps(last.at, end) > OVERDUE * longest
    {
        return None;
    }
    let mut level = points.to_vec();
    let mut take = |from: usize, to: usize, bytes: &dyn Fn(usize) -> f64| {
        for (at, point) in level.iter_mut().enumerate().take(to).skip(from) {
            point.bytes -= bytes(at);
        }
    };
    // The first tooth was cut by the run's beginning and the last by its end: they crept as the others did.
    take(0, first.at + 1, &|at| (first.bytes - rate * steps(at, first.at)).max(0.0));
    for tooth in &teeth {
        // A collapse that hides a jump, up or down, is short or long of what crept in; what is left then is the jump.
        let rate = if ALIKE.contains(&(tooth.rate() / rate)) { tooth.rate() } else { rate };
        take(tooth.from, tooth.to + 1, &|at| rate * steps(tooth.from, at));
    }
    take(last.at + 1, points.len(), &|at| rate * steps(last.at + 1, at));
    Some(level)
}

/// What crept in between two collapses, and the second of them.
struct Tooth {
    from: usize,
    to: usize,
    steps: f64,
    /// What the collapse gave back.
    bytes: f64,
    /// How much of it came gradually.
    crept: f64,
}

impl Tooth {
    fn of(points: &[Point], before: &Fall, fall: &Fall) -> Self {
        let (from, to) = (before.at + 1, fall.at);
        let middle = (from + to).div_ceil(2);
        let mean = |stretch: &[Point]| {
            stretch.iter().map(|point| point.bytes).sum::<f64>() / stretch.len().max(1) as f64
        };
        let halves = mean(&points[middle..=to]) - mean(&points[from..middle]);
        Self {
            from,
            to,
            steps: points[to].step - points[from].step,
            bytes: fall.bytes,
            crept: 2.0 * halves / fall.bytes,
        }
    }

    /// Bytes per step.
    fn rate(&self) -> f64 {
        self.bytes / self.steps
    }
}

/// The low-water and the high-water marks over the widest excursion: what lies beneath collapses of no one kind, and above.
pub fn envelope(points: &[Point], scale: &Scale) -> (Vec<Point>, Vec<Point>) {
    let widths = falls(points, scale, COLLAPSE_SHARE).into_iter().filter_map(|fall| fall.width);
    let wide = widths.filter(|width| *width <= points.len() / LONGEST).max().map_or(0, |width| width + 1);
    let mirrored: Vec<Point> =
        points.iter().rev().map(|at| Point { step: -at.step, bytes: -at.bytes }).collect();
    let mut high = low_water(&mirrored, wide);
    high.reverse();
    let high = high.into_iter().map(|at| Point { step: -at.step, bytes: -at.bytes }).collect();
    (low_water(points, wide), high)
}

/// At each point the least of it and the next `wide`; the last `wide` points have no such mark. Linear in time, by a queue
/// of candidates that rises from its front.
fn low_water(points: &[Point], wide: usize) -> Vec<Point> {
    let mut candidates: std::collections::VecDeque<usize> = std::collections::VecDeque::new();
    let mut marks = Vec::with_capacity(points.len());
    for (at, point) in points.iter().enumerate() {
        while candidates.back().is_some_and(|last| points[*last].bytes >= point.bytes) {
            candidates.pop_back();
        }
        candidates.push_back(at);
        let Some(from) = at.checked_sub(wide) else { continue };
        while candidates.front().is_some_and(|first| *first < from) {
            candidates.pop_front();
        }
        marks.extend(
            candidates.front().map(|least| Point { step: points[from].step, bytes: points[*least].bytes }),
        );
    }
    marks
}

#[cfg(test)]
mod tests {
    use super::*;

    fn points(bytes: &[f64]) -> Vec<Point> {
        bytes.iter().enumerate().map(|(step, bytes)| Point { step: step as f64, bytes: *bytes }).collect()
    }

    fn bytes(points: &[Point]) -> Vec<f64> {
        points.iter().map(|point| point.bytes).collect()
    }

    #[test]
    fn the_low_water_mark_is_what_is_not_given_back_within_the_width() {
        let marks = low_water(&points(&[1.0, 9.0, 2.0, 3.0, 8.0, 7.0]), 2);
        assert_eq!(bytes(&marks), [1.0, 2.0, 2.0, 3.0]);
        assert_eq!(marks[3].step, 3.0);
        assert_eq!(bytes(&low_water(&points(&[3.0, 1.0]), 0)), [3.0, 1.0]);
    }

    #[test]
    fn a_saw_on_a_slope_leaves_the_slope() {
        let saw: Vec<f64> =
            (0..100).map(|step| f64::from(step) * 2.0 + f64::from(step % 10) * 50.0).collect();
        let level = without_teeth(&points(&saw), &Scale { limit: 1.0, span: 99.0, noise: 1.0 }).unwrap();
        for pair in level.windows(2) {
            let gained = pair[1].bytes - pair[0].bytes;
            assert!((gained - 2.0).abs() < 2.1, "{gained}");
        }
        let gained = level[99].bytes - level[0].bytes;
        assert!((gained - 198.0).abs() < 25.0, "{gained}");
    }

    #[test]
    fn a_jump_that_a_collapse_hides_is_left_as_a_jump() {
        let saw = |step: u32| f64::from(step % 20) * 50.0 + if step >= 80 { 600.0 } else { 0.0 };
        let saw: Vec<f64> = (0..160).map(saw).collect();
        let level = without_teeth(&points(&saw), &Scale { limit: 1.0, span: 159.0, noise: 1.0 }).unwrap();
        for (step, point) in level.iter().enumerate() {
            let held = if step >= 80 { 600.0 } else { 0.0 };
            assert!((point.bytes - held).abs() < 1.0, "step {step}: {}", point.bytes);
        }
    }

    #[test]
    fn outliers_and_a_saw_that_has_ended_are_no_teeth() {
        let scale = Scale { limit: 1.0, span: 399.0, noise: 1.0 };
        let line = |step: u32| f64::from(step) + if step % 100 == 30 { 300.0 } else { 0.0 };
        let line: Vec<f64> = (0..400).map(line).collect();
        assert!(without_teeth(&points(&line), &scale).is_none());
        let ended: Vec<f64> = (0..400).map(|step: u32| f64::from(step.min(100) % 20) * 50.0).collect();
        assert!(without_teeth(&points(&ended), &scale).is_none());
    }

    #[test]
    fn a_spike_leaves_nothing() {
        let spiky: Vec<f64> = (0..200).map(|step| if step % 50 >= 47 { 900.0 } else { 10.0 }).collect();
        let level = without_spikes(&points(&spiky), &Scale { limit: 1.0, span: 199.0, noise: 0.0 });
        assert!(bytes(&level).iter().all(|bytes| *bytes == 10.0));
    }
}
