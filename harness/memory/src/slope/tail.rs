//! The slope of the end of a series: as long a tail as agrees with itself.
//!
//! A short tail has warm-up and old ways behind it and little to go by; a long one the reverse. Starting from the shortest,
//! the tail grows for as long as the confidence intervals of all tails so far have a point in common: the rule of the
//! intersection of confidence intervals (Goldenshluger and Nemirovski 1997, after Lepski 1990). Among the tails so accepted
//! the one that is known best is the answer.
//!
//! Memory wanders, and the wandering has a memory of its own, so the residuals of a fit are worth fewer samples than they
//! count. Their number is divided by the integrated autocorrelation time, summed to five times itself (Sokal 1997), and the
//! error of the slope takes the rest for its degrees of freedom (Santer et al. 2000). In a short tail a slow wander passes
//! for a slope and its residuals do not show it; there the error is at least what neighbouring stretches of the same length
//! differ by.

use statrs::distribution::{ContinuousCDF, StudentsT};

use super::robust::quantile;
use crate::series::Point;

/// The tails, as parts of the series, the shortest first.
const TAILS: [f64; 8] = [0.2, 0.25, 0.31, 0.38, 0.47, 0.57, 0.7, 0.85];
/// The shortest tail, in points.
const SHORTEST: usize = 12;
/// A level lasts this many points at least.
const LEVEL: usize = 3;
/// Differences below this share of the limit cannot change a verdict, and do not end a tail.
const SLACK: f64 = 0.05;
/// Two-sided confidence by which tails are told apart.
const APART: f64 = 0.99;
/// Two-sided confidence of the answer: 97.5 % on the side of the limit.
const ANSWER: f64 = 0.95;
/// The part of the series whose stretches are not compared: warm-up.
const WARM_UP: f64 = 0.3;
/// The quantile of the differences between neighbouring stretches that is scaled to a standard error: below the middle, as
/// a change of slope is in some of them.
const CALM: f64 = 0.25;
/// Its quantile among the absolute values of a normal distribution.
const CALM_NORMAL: f64 = 0.3186;
/// Slopes of two stretches that overlap by half differ with 2.5 times the variance of one, under independent noise.
const HALF_OVERLAP: f64 = 2.5;
/// Multiples of the error between stretches, by which tails are told apart and the answer is bounded: fitted on labelled
/// series.
const APART_STRETCH: f64 = 1.56;
const ANSWER_STRETCH: f64 = 1.2;

/// A slope, its interval, and the step at which its tail begins.
#[derive(Clone, Copy, Debug)]
pub struct Tail {
    pub slope: f64,
    pub low: f64,
    pub high: f64,
    pub from: f64,
}

/// The slope of the end of a series of evenly weighted points; at least [`SHORTEST`] of them.
pub fn growth_of_tail(points: &[Point], limit: f64) -> Tail {
    let mut best: Option<Tail> = None;
    let (mut low, mut high) = (f64::NEG_INFINITY, f64::INFINITY);
    for part in TAILS {
        let count =
            ((part * points.len() as f64).round() as usize).clamp(SHORTEST.min(points.len()), points.len());
        let tail = &points[points.len() - count..];
        let fit = Fit::of(tail);
        let stretch = between_stretches(points, count);
        let apart = (fit.error * fit.student(APART)).max(APART_STRETCH * stretch) + SLACK * limit;
        let (lowest, highest) = fit.within(apart);
        if lowest > high || highest < low {
            break;
        }
        (low, high) = (low.max(lowest), high.min(highest));
        let answer = (fit.error * fit.student(ANSWER)).max(ANSWER_STRETCH * stretch);
        let (lowest, highest) = fit.within(answer);
        if best.is_none_or(|best| highest - lowest <= best.high - best.low) {
            best = Some(Tail { slope: fit.slope, low: lowest, high: highest, from: tail[0].step });
        }
    }
    best.unwrap_or(Tail { slope: 0.0, low: f64::NEG_INFINITY, high: f64::INFINITY, from: points[0].step })
}

/// Least squares through a stretch.
struct Fit {
    slope: f64,
    /// What the slope is beside a jump, where one explains more.
    other: f64,
    /// Standard error of the slope.
    error: f64,
    freedom: f64,
}

impl Fit {
    fn of(points: &[Point]) -> Self {
        let ((slope, squares), residuals) = line(&[points]);
        let sum: f64 = residuals.iter().map(|residual| residual * residual).sum();
        let freedom = (residuals.len() as f64 / autocorrelation_time(&residuals) - 2.0).max(1.0);
        // A jump that noise hides may explain the stretch better than a slope does: then it is either.
        let other = match step(points) {
            Some((at, unexplained)) if unexplained < sum => line(&[&points[..at], &points[at..]]).0.0,
            _ => slope,
        };
        Self { slope, other, error: (sum / freedom / squares).sqrt(), freedom }
    }

    /// The interval that is this much wider than the slope, or the two that it may be.
    fn within(&self, error: f64) -> (f64, f64) {
        (self.slope.min(self.other) - error, self.slope.max(self.other) + error)
    }

    /// How many standard errors hold the slope with this two-sided confidence.
    fn student(&self, confidence: f64) -> f64 {
        StudentsT::new(0.0, 1.0, self.freedom)
            .map_or(f64::INFINITY, |student| student.inverse_cdf(0.5 + confidence / 2.0))
    }
}

/// The slope by least squares that is common to all sides, each at a level of its own, with the sum of squares of the
/// steps that it rests on; and what it leaves unexplained.
fn line(sides: &[&[Point]]) -> ((f64, f64), Vec<f64>) {
    let centred: Vec<Point> = sides.iter().flat_map(|side| centred(side)).collect();
    let squares: f64 = centred.iter().map(|point| point.step * point.step).sum();
    let slope = centred.iter().map(|point| point.step * point.bytes).sum::<f64>() / squares;
    let residuals = centred.iter().map(|point| point.bytes - slope * point.step).collect();
    ((slope, squares), residuals)
}

/// The points about their means.
fn centred(points: &[Point]) -> impl Iterator<Item = Point> {
    let mean = |of: fn(&Point) -> f64| points.iter().map(of).sum::<f64>() / points.len() as f64;
    let (step, bytes) = (mean(|point| point.step), mean(|point| point.bytes));
    points.iter().map(move |point| Point { step: point.step - step, bytes: point.bytes - bytes })
}

/// Where one jump between two levels explains the points best, and the sum of squares that it leaves.
fn step(points: &[Point]) -> Option<(usize, f64)> {
    let centred: Vec<f64> = centred(points).map(|point| point.bytes).collect();
    let squares: f64 = centred.iter().map(|bytes| bytes * bytes).sum();
    let count = centred.len();
    let mut sum = 0.0;
    let left = centred.iter().enumerate().map(|(at, bytes)| {
        sum += bytes;
        let before = at + 1;
        (before, squares - sum * sum * count as f64 / (before * (count - before)).max(1) as f64)
    });
    let inner = left.filter(|(before, _)| *before >= LEVEL && count - before >= LEVEL);
    inner.min_by(|a, b| a.1.total_cmp(&b.1))
}

/// The integrated autocorrelation time of residuals, at least 1 sample.
fn autocorrelation_time(residuals: &[f64]) -> f64 {
    let power: f64 = residuals.iter().map(|residual| residual * residual).sum();
    let mut time = 1.0;
    // Below a byte of spread there is nothing but rounding to correlate.
    if power <= residuals.len() as f64 {
        return time;
    }
    for lag in 1..residuals.len() / 2 {
        let pairs = residuals.len() - lag;
        let product: f64 = residuals.iter().zip(&residuals[lag..]).map(|(a, b)| a * b).sum();
        time += 2.0 * (product / pairs as f64) / (power / residuals.len() as f64);
        if lag as f64 >= 5.0 * time {
            break;
        }
    }
    time.max(1.0)
}

/// The standard error of a slope over `count` points by how the slopes of neighbouring stretches differ; 0 where the
/// series has too few such stretches.
fn between_stretches(points: &[Point], count: usize) -> f64 {
    let settled = &points[(WARM_UP * points.len() as f64) as usize..];
    if 1.5 * count as f64 + 8.0 > settled.len() as f64 {
        return 0.0;
    }
    let slopes: Vec<f64> = settled.windows(count).map(|stretch| line(&[stretch]).0.0).collect();
    let differ: Vec<f64> = slopes.iter().zip(&slopes[count / 2..]).map(|(a, b)| (a - b).abs()).collect();
    quantile(&differ, CALM) / CALM_NORMAL / HALF_OVERLAP.sqrt()
}
