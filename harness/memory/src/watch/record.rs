//! Keeps the samples of a watched command, by step and by time, in bounded memory.

use std::fs::File;
use std::io::{self, BufWriter, Write};
use std::path::Path;

use crate::bytes::Per;
use crate::series::{Point, Series};

/// When there are this many points, every second one is dropped.
const POINTS_MOST: usize = 1 << 14;

/// The lanes of a watched command.
pub const LANES: [&str; 2] = ["rss_bytes", "device_process_bytes"];

/// One measurement.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Sample {
    /// Seconds since the command started.
    pub seconds: f64,
    /// By lane, in the order of [`LANES`]. None if the lane cannot be measured.
    pub bytes: [Option<u64>; 2],
}

/// All samples of a command.
#[derive(Debug)]
pub struct Record {
    by_step: Thinned,
    by_second: Thinned,
    last: Option<(Sample, Option<u64>)>,
    rows: Option<Rows>,
}

impl Record {
    /// An empty record. With `file`, each sample of these `lanes` is also written there as a CSV row, by step or by
    /// second. Fails if the file cannot be created.
    pub fn new(file: Option<&Path>, per: Per, lanes: &'static [&'static str]) -> io::Result<Self> {
        let rows = file.map(|file| Rows::create(file, per, lanes)).transpose()?;
        Ok(Self { by_step: Thinned::default(), by_second: Thinned::default(), last: None, rows })
    }

    /// Adds a sample that was taken after `step`, if a step has been seen.
    pub fn add(&mut self, sample: Sample, step: Option<u64>) {
        self.by_second.add(sample.seconds, sample.bytes);
        // Several samples within one step would give the slope points with equal steps.
        let new_step = step.filter(|_| step > self.step());
        if let Some(step) = new_step {
            self.by_step.add(step as f64, sample.bytes);
        }
        if let Some(rows) = &mut self.rows {
            rows.add(&sample, new_step);
        }
        self.last = Some((sample, step));
    }

    /// The last sample.
    pub fn last(&self) -> Option<&Sample> {
        self.last.as_ref().map(|(sample, _)| sample)
    }

    /// The last step that was sampled.
    pub fn step(&self) -> Option<u64> {
        self.last.as_ref().and_then(|(_, step)| *step)
    }

    /// The unit of growth: steps if at least two have been seen, otherwise seconds.
    pub fn per(&self) -> Per {
        if self.by_step.points.len() >= 2 { Per::Step } else { Per::Second }
    }

    /// The points of a lane.
    pub fn points(&self, lane: usize, per: Per) -> Vec<Point> {
        let thinned = match per {
            Per::Step => &self.by_step,
            Per::Second => &self.by_second,
        };
        let point = |(at, lanes): &(f64, [Option<u64>; 2])| {
            lanes[lane].map(|bytes| Point { step: *at, bytes: bytes as f64 })
        };
        thinned.points.iter().filter_map(point).collect()
    }

    /// The lanes that were measured, with `file` as their file name. The first lane is always included.
    pub fn series(&self, file: &str, per: Per) -> Vec<Series> {
        let series = LANES.iter().enumerate().map(|(lane, name)| Series {
            file: file.to_owned(),
            lane: (*name).to_owned(),
            points: self.points(lane, per),
        });
        series.enumerate().filter(|(at, it)| *at == 0 || !it.points.is_empty()).map(|(_, it)| it).collect()
    }

    /// Completes the file. Fails if any row could not be written.
    pub fn finish(&mut self) -> io::Result<()> {
        self.rows.take().map_or(Ok(()), |mut rows| {
            rows.failed.take().map_or(Ok(()), Err)?;
            rows.to.flush()
        })
    }
}

/// Points that are thinned evenly when there are too many.
#[derive(Debug)]
struct Thinned {
    points: Vec<(f64, [Option<u64>; 2])>,
    one_in: u64,
    seen: u64,
}

impl Default for Thinned {
    fn default() -> Self {
        Self { points: Vec::new(), one_in: 1, seen: 0 }
    }
}

impl Thinned {
    fn add(&mut self, at: f64, lanes: [Option<u64>; 2]) {
        if self.seen.is_multiple_of(self.one_in) {
            self.points.push((at, lanes));
        }
        self.seen += 1;
        if self.points.len() == POINTS_MOST {
            let mut keep = false;
            self.points.retain(|_| {
                keep = !keep;
                keep
            });
            self.one_in *= 2;
        }
    }
}

/// The rows of the CSV file, which `gate` can read.
#[derive(Debug)]
struct Rows {
    to: BufWriter<File>,
    per: Per,
    lanes: usize,
    failed: Option<io::Error>,
}

impl Rows {
    fn create(file: &Path, per: Per, lanes: &[&str]) -> io::Result<Self> {
        let mut to = BufWriter::new(File::create(file)?);
        let first = match per {
            Per::Step => "step",
            Per::Second => "second",
        };
        writeln!(to, "{first},{}", lanes.join(","))?;
        to.flush()?;
        Ok(Self { to, per, lanes: lanes.len(), failed: None })
    }

    /// A full disk must not stop the command, so the first failure is reported at its end.
    fn add(&mut self, sample: &Sample, new_step: Option<u64>) {
        let at = match self.per {
            Per::Step => new_step.map(|step| step.to_string()),
            Per::Second => Some(format!("{:.3}", sample.seconds)),
        };
        let Some(at) = at.filter(|_| self.failed.is_none()) else { return };
        let cell = |bytes: Option<u64>| bytes.map(|it| it.to_string()).unwrap_or_default();
        let cells = sample.bytes.map(cell)[..self.lanes].join(",");
        self.failed = writeln!(self.to, "{at},{cells}").and_then(|()| self.to.flush()).err();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sample(seconds: f64, rss: u64) -> Sample {
        Sample { seconds, bytes: [Some(rss), None] }
    }

    #[test]
    fn a_step_is_sampled_once_and_time_always() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.csv");
        let mut record = Record::new(Some(&file), Per::Step, &LANES[..1]).unwrap();
        for (seconds, step) in [(0.1, None), (0.2, Some(1)), (0.3, Some(1)), (0.4, Some(5))] {
            record.add(sample(seconds, 100), step);
        }
        record.finish().unwrap();
        assert_eq!((record.per(), record.step()), (Per::Step, Some(5)));
        let steps = record.points(0, Per::Step);
        assert_eq!(steps.iter().map(|it| it.step).collect::<Vec<_>>(), [1.0, 5.0]);
        assert_eq!(record.points(0, Per::Second).len(), 4);
        assert_eq!(record.series("f", Per::Step).len(), 1, "there is no GPU in it");
        let text = std::fs::read_to_string(&file).unwrap();
        assert_eq!(text, "step,rss_bytes\n1,100\n5,100\n");
    }

    #[test]
    fn a_lane_that_was_never_sampled_is_absent_from_the_series_of_the_file() {
        let folder = tempfile::tempdir().unwrap();
        let file = folder.path().join("memory.csv");
        let mut record = Record::new(Some(&file), Per::Step, &LANES).unwrap();
        (1..4).for_each(|step| record.add(sample(step as f64, 100), Some(step)));
        record.finish().unwrap();
        let series = crate::series::read_csv(&file, &[]).unwrap().series;
        assert_eq!(series, record.series(&file.display().to_string(), Per::Step));
        assert_eq!(series.len(), 1);
    }

    #[test]
    fn a_long_run_is_thinned_evenly() {
        let mut record = Record::new(None, Per::Second, &LANES).unwrap();
        (0..10 * POINTS_MOST as u64).for_each(|at| record.add(sample(at as f64, at), None));
        let points = record.points(0, Per::Second);
        assert!((POINTS_MOST / 2..POINTS_MOST).contains(&points.len()));
        let apart = points[1].step - points[0].step;
        assert!(points.windows(2).all(|two| two[1].step - two[0].step == apart));
        assert_eq!((points[0].step, apart), (0.0, 16.0));
    }

    #[test]
    fn a_file_that_cannot_be_made_is_an_error() {
        assert!(Record::new(Some(Path::new("/no/such/folder/memory.csv")), Per::Step, &LANES).is_err());
    }
}
