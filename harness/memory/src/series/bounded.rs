//! A lane of any length in bounded memory: the minimum and the maximum of each stretch of rows.
//!
//! A slope is judged by the minima and a peak by the maxima, so neither is lost.

use super::Point;

/// The most points that are kept per lane. A verdict uses fewer.
const MOST: usize = 1 << 17;
/// Four points become two: the minimum and the maximum.
const MERGED: usize = 4;

/// The points of a lane as they are read.
pub struct Bounded {
    points: Vec<Point>,
    /// Rows per two points; 1 while every row is a point.
    stretch: usize,
    /// The rows of the stretch that is not yet full.
    open: Vec<Point>,
}

impl Bounded {
    /// No points.
    pub fn new() -> Self {
        Self { points: Vec::new(), stretch: 1, open: Vec::new() }
    }

    /// Takes the next row.
    pub fn push(&mut self, point: Point) {
        if self.stretch == 1 {
            self.points.push(point);
        } else {
            self.open.push(point);
            if self.open.len() == self.stretch {
                self.points.extend(extremes(&self.open));
                self.open.clear();
            }
        }
        if self.points.len() >= MOST {
            self.points = self.points.chunks(MERGED).flat_map(extremes).collect();
            self.stretch = (2 * self.stretch).max(MERGED);
        }
    }

    /// The points that were kept, followed by the rows of the last, incomplete stretch.
    pub fn finish(mut self) -> Vec<Point> {
        self.points.append(&mut self.open);
        self.points
    }
}

/// The minimum and the maximum of a stretch, in the order of their steps. One point if both are the same.
fn extremes(stretch: &[Point]) -> impl Iterator<Item = Point> + use<> {
    let by = |a: &&Point, b: &&Point| a.bytes.total_cmp(&b.bytes);
    let least = stretch.iter().min_by(by).copied();
    let most = stretch.iter().max_by(by).copied();
    let order =
        |least: Point, most: Point| if least.step < most.step { [least, most] } else { [most, least] };
    let both = least.zip(most).map(|(least, most)| order(least, most));
    let same = both.is_some_and(|[first, second]| first.step == second.step);
    both.into_iter().flatten().skip(usize::from(same))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn kept(rows: u32, bytes: impl Fn(u32) -> f64) -> Vec<Point> {
        let mut lane = Bounded::new();
        (0..rows).for_each(|step| lane.push(Point { step: f64::from(step), bytes: bytes(step) }));
        lane.finish()
    }

    #[test]
    fn a_short_lane_is_kept_as_it_is() {
        let points = kept(100_000, f64::from);
        assert_eq!(points.len(), 100_000);
        assert!(points.iter().all(|point| point.step == point.bytes));
    }

    #[test]
    fn of_a_long_lane_the_least_and_the_most_stay_and_steps_rise_evenly() {
        let spiky = |step| match step {
            400_001 => 9e9,
            2_000_003 => -9e9,
            _ => f64::from(step % 7),
        };
        let points = kept(3_000_000, spiky);
        assert!(points.len() <= MOST, "{}", points.len());
        let at = |bytes: f64| points.iter().find(|point| point.bytes == bytes).map(|point| point.step);
        assert_eq!((at(9e9), at(-9e9)), (Some(400_001.0), Some(2_000_003.0)));
        let gaps: Vec<f64> = points.windows(2).map(|pair| pair[1].step - pair[0].step).collect();
        let widest = gaps.iter().copied().fold(0.0, f64::max);
        assert!(gaps.iter().all(|gap| *gap > 0.0) && widest < 256.0, "{widest}");
    }
}
