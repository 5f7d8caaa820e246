//! The course of one quantity over the updates of a run, in memory that does not grow with the run.
//!
//! A long course is kept in buckets of updates. A bucket keeps the least and the most of its updates, so that a spike of
//! one update stays visible, and counts the values that are not finite.

/// Twice as many buckets are merged by two. A panel is about as many pixels wide.
const BUCKETS: usize = 120;

/// A value after an update.
pub(super) type Point = (u64, f64);

/// The values of one quantity.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Curve {
    /// Updates per bucket, a power of two.
    width: u64,
    buckets: Vec<Bucket>,
}

#[derive(Clone, Debug, PartialEq)]
struct Bucket {
    /// The update of the first value, divided by the width.
    index: u64,
    /// A run that goes back to an earlier update begins another piece.
    piece: u32,
    /// The least and the most of the finite values.
    extremes: Option<(Point, Point)>,
    /// The first update whose value is not finite, and how many there are.
    unfinite: Option<(u64, u64)>,
    /// The last update.
    last: u64,
}

impl Default for Curve {
    fn default() -> Self {
        Self { width: 1, buckets: Vec::new() }
    }
}

impl Curve {
    /// The value after the next update. The updates of one process ascend; a resumed process may go back.
    pub(super) fn see(&mut self, update: u64, value: f64) {
        let before = self.buckets.last();
        let piece = before.map_or(0, |it| it.piece + u32::from(update < it.last));
        let point = (update, value);
        let (extremes, unfinite) =
            if value.is_finite() { (Some((point, point)), None) } else { (None, Some((update, 1))) };
        self.add(Bucket { index: update / self.width, piece, extremes, unfinite, last: update });
        while self.buckets.len() >= 2 * BUCKETS && self.width < u64::MAX / 4 {
            self.width *= 2;
            for mut bucket in std::mem::take(&mut self.buckets) {
                bucket.index /= 2;
                self.add(bucket);
            }
        }
    }

    fn add(&mut self, bucket: Bucket) {
        match self.buckets.last_mut() {
            Some(last) if (last.piece, last.index) == (bucket.piece, bucket.index) => last.merge(&bucket),
            _ => self.buckets.push(bucket),
        }
    }

    /// The lines to draw. A value that is not finite ends a line, and the next finite one begins another.
    pub(super) fn lines(&self) -> Vec<Vec<Point>> {
        let mut lines: Vec<Vec<Point>> = vec![Vec::new()];
        let mut piece = 0;
        for bucket in &self.buckets {
            if bucket.piece != piece {
                lines.push(Vec::new());
                piece = bucket.piece;
            }
            let points = bucket.points();
            // Between the values of its own bucket the gap is too narrow to be seen.
            lines.last_mut().expect("one line at least").extend(points);
            if bucket.unfinite.is_some() {
                lines.push(Vec::new());
            }
        }
        lines.retain(|line| !line.is_empty());
        lines
    }

    /// The first update of each bucket whose value is not finite.
    pub(super) fn gaps(&self) -> impl Iterator<Item = u64> {
        self.buckets.iter().filter_map(|bucket| bucket.unfinite).map(|(update, _)| update)
    }

    /// How many values are not finite.
    pub(super) fn unfinite(&self) -> u64 {
        self.buckets.iter().filter_map(|bucket| bucket.unfinite).map(|(_, count)| count).sum()
    }

    /// Whether wide lines would hide how it goes up and down.
    pub(super) fn is_dense(&self) -> bool {
        self.buckets.len() > BUCKETS / 2
    }

    /// The least and the most of the finite values.
    pub(super) fn extremes(&self) -> Option<(Point, Point)> {
        self.buckets.iter().filter_map(|bucket| bucket.extremes).reduce(wider)
    }

    /// The first update and the last, with a value or without.
    pub(super) fn span(&self) -> Option<(u64, u64)> {
        let starts = self.buckets.iter().flat_map(|it| {
            let of_extremes = it.extremes.map(|(least, most)| least.0.min(most.0));
            of_extremes.into_iter().chain(it.unfinite.map(|(update, _)| update))
        });
        starts.min().zip(self.buckets.iter().map(|it| it.last).max())
    }
}

impl Bucket {
    fn merge(&mut self, later: &Self) {
        self.extremes = match (self.extremes, later.extremes) {
            (Some(one), Some(other)) => Some(wider(one, other)),
            (one, other) => one.or(other),
        };
        self.unfinite = match (self.unfinite, later.unfinite) {
            (Some((first, count)), Some((_, more))) => Some((first, count + more)),
            (one, other) => one.or(other),
        };
        self.last = later.last;
    }

    /// One or two, in the order of their updates.
    fn points(&self) -> Vec<Point> {
        match self.extremes {
            Some((least, most)) if least == most => vec![least],
            Some((least, most)) if least.0 <= most.0 => vec![least, most],
            Some((least, most)) => vec![most, least],
            None => Vec::new(),
        }
    }
}

fn wider(one: (Point, Point), other: (Point, Point)) -> (Point, Point) {
    let least = if other.0.1 < one.0.1 { other.0 } else { one.0 };
    let most = if other.1.1 > one.1.1 { other.1 } else { one.1 };
    (least, most)
}

#[cfg(test)]
mod tests;
