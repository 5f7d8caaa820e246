//! Growth that has only just begun.
//!
//! The slope of a tail is judged over a fifth of the run or more. What begins in the last tenth moves that slope by little,
//! and a verdict of "within" would be about memory as it was before. So the end of the run is looked at by itself: where it
//! climbs faster than the limit, steadily, and nothing before it did so, the run is too short to be judged.

use super::robust::median;
use crate::series::Point;

/// The stretches at the end that are looked at, as parts of the run.
const ENDS: [f64; 7] = [0.02, 0.03, 0.05, 0.08, 0.12, 0.16, 0.2];
/// The shortest stretch, in points.
const SHORTEST: usize = 8;
/// A climb is measured over this part of its stretch: a single jump then shows in a third of the pairs, below the median.
const LAG: usize = 4;
/// The first part of a run, whose climbs are warm-up and excuse nothing.
const WARM_UP: f64 = 0.15;
/// The end is new where it climbs this many times as fast as anything before it.
const FASTER: f64 = 2.0;
/// A climb this much above the limit counts.
const ABOVE: f64 = 1.2;
/// As much of a run must lie behind a change before its slope is judged.
const JUDGED: f64 = 0.25;

/// A climb at the end of a run.
#[derive(Clone, Copy, Debug)]
pub struct Late {
    /// Bytes per step.
    pub slope: f64,
    /// The steps for which it has lasted.
    pub steps: f64,
}

impl Late {
    /// The further steps after which it would be a quarter of the run.
    pub fn further(&self, span: f64) -> f64 {
        (JUDGED * span - self.steps).max(0.0) / (1.0 - JUDGED)
    }
}

/// The climb at the end of the points that is above the limit and that nothing before it resembles; the longest of them.
pub fn climb(points: &[Point], limit: f64) -> Option<Late> {
    let end = |part: &f64| ((part * points.len() as f64).round() as usize).max(SHORTEST);
    let climb = |count: usize| {
        let (before, last) = points.split_at(points.len() - count);
        let slope = steady(last);
        let settled = before.get((WARM_UP * points.len() as f64) as usize..)?;
        let fastest = settled.windows(count).step_by((count / LAG).max(1)).map(steady).fold(0.0, f64::max);
        let steps = last[count - 1].step - last[0].step;
        (slope > ABOVE * limit && slope > FASTER * fastest).then_some(Late { slope, steps })
    };
    ENDS.iter().rev().map(end).filter(|count| 2 * count < points.len()).find_map(climb)
}

/// The rate at which a stretch climbs throughout: the median over pairs of points, so that one jump is none.
fn steady(stretch: &[Point]) -> f64 {
    let lag = (stretch.len() / LAG).max(1);
    let pairs = stretch.iter().zip(&stretch[lag..]);
    median(&pairs.map(|(a, b)| (b.bytes - a.bytes) / (b.step - a.step)).collect::<Vec<_>>())
}
