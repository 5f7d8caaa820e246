//! Reads a recording from a log that a training left: its columns of memory, one series per process.

use std::collections::BTreeMap;
use std::path::Path;
use std::str::FromStr;

use traintrue_logs::{Column, Entry, Layout, read};

use super::{Point, Recording, Series, SeriesError};

/// A process with less than 1 MiB does not train: such a column is in another unit.
const BYTES_LEAST: f64 = (1_u64 << 20) as f64;

/// The unit of a log's memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Unit(f64);

/// Of 1024 and of 1000, as libraries log both.
const UNITS: [(&str, f64); 7] = [
    ("B", 1.0),
    ("KiB", 1024.0),
    ("MiB", (1_u64 << 20) as f64),
    ("GiB", (1_u64 << 30) as f64),
    ("KB", 1e3),
    ("MB", 1e6),
    ("GB", 1e9),
];

/// A word that is no unit.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown unit {word:?}; expected B, KiB, MiB, GiB, KB, MB or GB")]
pub struct UnitError {
    word: String,
}

impl FromStr for Unit {
    type Err = UnitError;

    fn from_str(word: &str) -> Result<Self, UnitError> {
        let unit = UNITS.iter().find(|(known, _)| *known == word);
        unit.map(|(_, bytes)| Self(*bytes)).ok_or_else(|| UnitError { word: word.to_owned() })
    }
}

/// Reads a log. A resumed run begins a series of its own: its process has memory of its own. With `only`, reads these
/// lanes. Fails if no column of memory is known, or if one cannot be in bytes and no unit is given.
pub fn read_log(
    path: &Path,
    layout: &Layout,
    unit: Option<Unit>,
    only: &[String],
) -> Result<Recording, SeriesError> {
    let log = read(path, layout)?;
    let mut found = Recording::default();
    for process in log.processes() {
        let mut lanes: BTreeMap<&str, Vec<Point>> = BTreeMap::new();
        let mut steps = Steps::default();
        for entry in process {
            let mut sampled = memory(entry).peekable();
            if sampled.peek().is_none() {
                continue;
            }
            let step = if log.steps_within_epochs { steps.count(entry.step) } else { entry.step };
            for (lane, held) in sampled {
                let point = Point { step: step as f64, bytes: held * unit.map_or(1.0, |unit| unit.0) };
                let points = lanes.entry(lane).or_default();
                // Of what was logged twice at a step, the later is what the step left.
                match points.last_mut().filter(|last| last.step >= point.step) {
                    Some(last) => last.bytes = point.bytes,
                    None => points.push(point),
                }
            }
        }
        let file = match process.first() {
            Some(first) if !found.series.is_empty() => {
                format!("{}, from step {}", path.display(), first.step)
            }
            _ => path.display().to_string(),
        };
        let series = |(lane, points): (&str, _)| Series { file: file.clone(), lane: lane.to_owned(), points };
        found.series.extend(lanes.into_iter().map(series));
    }
    if found.series.is_empty() {
        return Err(SeriesError::NoMemory { path: path.to_owned() });
    }
    for series in found.series.iter().filter(|_| unit.is_none()) {
        let most = series.points.iter().map(|point| point.bytes).fold(0.0, f64::max);
        if most > 0.0 && most < BYTES_LEAST {
            return Err(SeriesError::NotBytes { path: path.to_owned(), lane: series.lane.clone(), most });
        }
    }
    found.keep(path, only)
}

/// The lanes of an entry that were sampled.
fn memory(entry: &Entry) -> impl Iterator<Item = (&'static str, f64)> {
    let lanes = [Column::Rss, Column::Heap, Column::Gpu, Column::GpuReserved].map(Column::figure);
    let sampled = |lane: &'static str| Some((lane, entry.figures.get(lane)?.0));
    lanes.into_iter().filter_map(sampled).filter(|(_, held)| held.is_finite() && *held >= 0.0)
}

/// Steps that rise, of a script that counts again with each epoch.
#[derive(Default)]
struct Steps {
    last: Option<u64>,
    before: u64,
}

impl Steps {
    fn count(&mut self, step: u64) -> u64 {
        if let Some(last) = self.last.filter(|last| step < *last) {
            self.before += last + u64::from(step == 0);
        }
        self.last = Some(step);
        self.before + step
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn recorded(text: &str, columns: &str, unit: Option<&str>) -> Result<Recording, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let path = file.path().with_extension("csv");
        std::fs::copy(file.path(), &path).unwrap();
        let layout = Layout { columns: columns.parse().unwrap(), pattern: None };
        read_log(&path, &layout, unit.map(|unit| unit.parse().unwrap()), &[])
            .map_err(|error| error.to_string())
    }

    fn points(series: &Series) -> Vec<(f64, f64)> {
        series.points.iter().map(|point| (point.step, point.bytes)).collect()
    }

    #[test]
    fn a_resumed_run_is_a_series_of_its_own() {
        let found =
            recorded("step,m\n1,1.5\n2,\n3,2\n3,2.5\n2,1\n3,nan\n4,1\n", "rss=m", Some("GiB")).unwrap();
        let gib = 1024.0_f64.powi(3);
        assert_eq!(found.series.iter().map(|it| it.lane.as_str()).collect::<Vec<_>>(), ["rss_bytes"; 2]);
        assert_eq!(points(&found.series[0]), [(1.0, 1.5 * gib), (3.0, 2.5 * gib)]);
        assert_eq!(points(&found.series[1]), [(2.0, gib), (4.0, gib)]);
        assert!(found.series[1].file.ends_with(", from step 2"));
    }

    #[test]
    fn steps_of_epochs_are_counted_on() {
        let found = recorded("epoch,step,m\n0,0,5\n0,1,5\n1,0,6\n1,1,6\n", "gpu=m", Some("MB")).unwrap();
        assert_eq!(points(&found.series[0]), [(0.0, 5e6), (1.0, 5e6), (2.0, 6e6), (3.0, 6e6)]);
    }

    #[rstest]
    #[case("rss=m", "lane rss_bytes holds at most 3.5, which is not a number of bytes; give its unit")]
    #[case("lr=m", "no column of memory is known; name one with --columns rss=NAME")]
    fn what_is_no_memory_is_refused(#[case] columns: &str, #[case] why: &str) {
        let error = recorded("step,m\n1,3.5\n2,3\n", columns, None).unwrap_err();
        assert!(error.contains(why), "{error}");
    }

    #[test]
    fn a_word_that_is_no_unit_is_refused() {
        let error = "gb".parse::<Unit>().unwrap_err().to_string();
        assert_eq!(error, "unknown unit \"gb\"; expected B, KiB, MiB, GiB, KB, MB or GB");
    }
}
