//! A memory series: how many bytes one lane held at each step of a run.

mod bounded;
mod error;
mod log;
mod table;
mod trace;

use std::collections::BTreeMap;
use std::io::Read as _;
use std::path::Path;

use traintrue_logs::{LIGHTNING, Layout};

pub use error::SeriesError;
pub use log::{Unit, read_log};
pub use table::{read_csv, write_csv};
pub use trace::read_trace;

use super::exact::Sample;

/// What one lane held at one step.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Point {
    /// The step, in updates done.
    pub step: f64,
    /// What was held.
    pub bytes: f64,
}

/// One lane of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Series {
    /// The file it was read from, as it was named.
    pub file: String,
    /// The lane: a column of a CSV, a lane of a trace.
    pub lane: String,
    /// What it held, by strictly increasing step. At least one point. Of a very long file, the minimum and the maximum
    /// of each stretch.
    pub points: Vec<Point>,
}

/// Everything that a file says about the memory of one run.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Recording {
    /// What each lane held after each update.
    pub series: Vec<Series>,
    /// What each lane held at each place of each epoch, if the file has epochs.
    pub samples: BTreeMap<String, Vec<Sample>>,
    /// The updates done at each end of an epoch.
    pub edges: Vec<f64>,
    /// Which run it was, if the file is a trace.
    pub run: Option<Ran>,
}

/// Which run a trace is of.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ran {
    /// Its scenario.
    pub scenario: String,
    /// Its name within the scenario.
    pub run: String,
    /// The device that it ran on.
    pub device: String,
}

/// Reads a file: a log if `layout` or its name says so, a trace if its first byte opens a JSON object, otherwise a CSV
/// with a `step` column and one or more lanes in bytes. With `only`, reads these lanes. `unit` is that of a log's memory,
/// if it was given. Fails with the line if the file cannot be read or has no series.
pub fn record(
    path: &Path,
    layout: &Layout,
    unit: Option<Unit>,
    only: &[String],
) -> Result<Recording, SeriesError> {
    if traintrue_logs::is_log(path, layout)? && (layout.is_any() || !is_series(path)) {
        return read_log(path, layout, unit, only);
    }
    let mut first = [0];
    let io = |source| SeriesError::Io { path: path.to_owned(), source };
    let read = std::fs::File::open(path).and_then(|mut file| file.read(&mut first)).map_err(io)?;
    if read == 1 && first[0] == b'{' { read_trace(path, only) } else { read_csv(path, only) }
}

/// Whether a file is a table of lanes, as [`write_csv`] writes it, and not a log.
fn is_series(path: &Path) -> bool {
    let has = |part: Option<&std::ffi::OsStr>, what: &str| part.is_some_and(|part| part == what);
    path.is_file() && has(path.extension(), "csv") && !has(path.file_name(), LIGHTNING)
}

impl Recording {
    /// Keeps the requested lanes, or all lanes if none is named. Fails on a lane that does not exist or has no point. A
    /// lane with few points stays: that they are too few is a verdict of its own.
    fn keep(mut self, path: &Path, only: &[String]) -> Result<Self, SeriesError> {
        let path = || path.to_owned();
        if let Some(lane) = only.iter().find(|lane| !self.series.iter().any(|series| series.lane == **lane)) {
            let lanes: Vec<&str> = self.series.iter().map(|series| series.lane.as_str()).collect();
            return Err(SeriesError::NoLane { path: path(), lane: lane.clone(), lanes: lanes.join(", ") });
        }
        self.series.retain(|series| only.is_empty() || only.contains(&series.lane));
        match self.series.iter().find(|series| series.points.is_empty()) {
            None => Ok(self),
            Some(Series { lane, .. }) => Err(SeriesError::NoRow { path: path(), lane: lane.clone() }),
        }
    }
}

#[cfg(test)]
mod tests;
