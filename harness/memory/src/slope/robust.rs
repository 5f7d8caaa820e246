//! Medians and spreads that a few wild values do not move.

use crate::series::Point;

/// The standard deviation of a normal distribution is this many median absolute deviations.
const NORMAL: f64 = 1.4826;

/// The value below which the share `at` of the values lies, interpolated; 0 where there are none.
pub fn quantile(values: &[f64], at: f64) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let Some(last) = sorted.len().checked_sub(1) else { return 0.0 };
    let place = at * last as f64;
    let (below, above) = (sorted[place as usize], sorted[(place as usize + 1).min(last)]);
    below + (above - below) * place.fract()
}

/// The middle value; 0 where there are none.
pub fn median(values: &[f64]) -> f64 {
    quantile(values, 0.5)
}

/// How far values lie from their median, as a standard deviation: from the median absolute deviation (Hampel 1974).
pub fn spread(values: &[f64]) -> f64 {
    let middle = median(values);
    NORMAL * median(&values.iter().map(|value| (value - middle).abs()).collect::<Vec<_>>())
}

/// What is gained from each point to the next.
pub fn increments(points: &[Point]) -> Vec<f64> {
    points.windows(2).map(|pair| pair[1].bytes - pair[0].bytes).collect()
}

/// The relative standard deviation; infinite around a mean of 0.
pub fn variation(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let square = values.iter().map(|value| (value - mean).powi(2)).sum::<f64>() / count;
    if mean == 0.0 { f64::INFINITY } else { square.sqrt() / mean.abs() }
}

/// The third standardised moment; 0 where nothing varies.
pub fn skewness(values: &[f64]) -> f64 {
    let count = values.len() as f64;
    let mean = values.iter().sum::<f64>() / count;
    let moment = |power: i32| values.iter().map(|value| (value - mean).powi(power)).sum::<f64>() / count;
    let variance = moment(2);
    if variance == 0.0 { 0.0 } else { moment(3) / variance.powf(1.5) }
}
