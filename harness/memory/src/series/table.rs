//! A recording as a CSV, read and written: a `step` column, then one or more lanes in plain bytes; an empty cell is a
//! missing sample.
//!
//! A column named `epoch` is not a lane: it gives the epoch of each row.

use std::collections::BTreeMap;
use std::path::Path;

use csv::{ByteRecord, ReaderBuilder, StringRecord};

use super::bounded::Bounded;
use super::{Point, Recording, Series, SeriesError};
use crate::exact::phased;

/// Error messages show at most this many characters of a cell.
const SHOWN_CHARS: usize = 40;
/// The column with the epoch of each row.
const EPOCH: &str = "epoch";

/// Reads a CSV. With `only`, reads these lanes. Errors name the line and the column.
pub fn read_csv(path: &Path, only: &[String]) -> Result<Recording, SeriesError> {
    let open =
        std::fs::File::open(path).map_err(|source| SeriesError::Io { path: path.to_owned(), source })?;
    let mut reader = ReaderBuilder::new().trim(csv::Trim::All).from_reader(std::io::BufReader::new(open));
    let header = reader.headers().map_err(|error| not_csv(path, error))?.clone();
    let mut series = lanes(path, &header)?;
    let columns: Vec<usize> = (1..header.len()).filter(|column| &header[*column] != EPOCH).collect();
    let epoch_column = header.iter().position(|name| name == EPOCH);
    let mut lanes: Vec<Bounded> = series.iter().map(|_| Bounded::new()).collect();
    let mut held: BTreeMap<String, Vec<(u64, u64, u64)>> = BTreeMap::new();
    let mut edges = Vec::new();
    let (mut row, mut before, mut epoch) = (ByteRecord::new(), None, None);
    while reader.read_byte_record(&mut row).map_err(|error| not_csv(path, error))? {
        let line = row.position().map_or(0, csv::Position::line);
        let cell = |column: usize, expected| {
            let text = String::from_utf8_lossy(row.get(column).unwrap_or_default());
            Cell { path, line, column: &header[column], text: text.trim() }.number(expected)
        };
        let step = cell(0, "a step")?.ok_or_else(|| no_step(path, line))?;
        if let Some(before) = before.filter(|before| *before >= step) {
            return Err(SeriesError::Unsorted { path: path.to_owned(), line, before, found: step });
        }
        let next = epoch_column.map(|column| cell(column, "an epoch")).transpose()?.flatten();
        if let (Some(last), true) = (before, epoch.is_some() && epoch != next) {
            edges.push(last);
        }
        (before, epoch) = (Some(step), next);
        for ((series, lane), column) in series.iter().zip(&mut lanes).zip(&columns) {
            let Some(bytes) = cell(*column, "a number of bytes")? else { continue };
            lane.push(Point { step, bytes });
            if let Some(epoch) = epoch {
                held.entry(series.lane.clone()).or_default().push((epoch as u64, step as u64, bytes as u64));
            }
        }
    }
    for (series, lane) in series.iter_mut().zip(lanes) {
        series.points = lane.finish();
    }
    // A lane without samples is dropped, as in a trace: for example a device that nothing computed on.
    if series.iter().any(|lane| !lane.points.is_empty()) {
        series.retain(|lane| !lane.points.is_empty());
    }
    let samples = held.into_iter().map(|(lane, held)| (lane, phased(held))).collect();
    Recording { series, samples, edges, run: None }.keep(path, only)
}

/// A recording of these lanes as [`read_csv`] reads it: a row for each step at which one of them was sampled.
pub fn write_csv<'a>(lanes: impl IntoIterator<Item = &'a Series>) -> csv::Result<Vec<u8>> {
    let lanes: Vec<&Series> = lanes.into_iter().collect();
    let mut next = vec![0; lanes.len()];
    let mut writer = csv::Writer::from_writer(Vec::new());
    writer.write_record(std::iter::once("step").chain(lanes.iter().map(|it| it.lane.as_str())))?;
    let waiting = |next: &[usize]| {
        let points = lanes.iter().zip(next).filter_map(|(lane, at)| lane.points.get(*at));
        points.map(|point| point.step).min_by(f64::total_cmp)
    };
    while let Some(step) = waiting(&next) {
        writer.write_field(step.to_string())?;
        for (lane, next) in lanes.iter().zip(&mut next) {
            let point = lane.points.get(*next).filter(|point| point.step == step);
            *next += usize::from(point.is_some());
            writer.write_field(point.map(|point| point.bytes.to_string()).unwrap_or_default())?;
        }
        writer.write_record(None::<&[u8]>)?;
    }
    writer.into_inner().map_err(|error| error.into_error().into())
}

/// One empty series per lane column.
fn lanes(path: &Path, header: &StringRecord) -> Result<Vec<Series>, SeriesError> {
    let first = header.get(0).unwrap_or_default();
    if first.is_empty() && header.len() <= 1 {
        return Err(SeriesError::Empty { path: path.to_owned() });
    }
    if first != "step" {
        return Err(SeriesError::NoStep { path: path.to_owned(), found: shown(first) });
    }
    let columns = header.iter().enumerate().skip(1).filter(|(_, name)| *name != EPOCH);
    let mut names: Vec<&str> = Vec::new();
    for (at, name) in columns {
        if name.is_empty() || names.contains(&name) {
            return Err(SeriesError::LaneName { path: path.to_owned(), column: at + 1, found: shown(name) });
        }
        names.push(name);
    }
    if names.is_empty() {
        return Err(SeriesError::NoLanes { path: path.to_owned() });
    }
    let file = path.display().to_string();
    Ok(names
        .iter()
        .map(|lane| Series { file: file.clone(), lane: (*lane).to_owned(), points: Vec::new() })
        .collect())
}

/// One cell, with its place for errors.
struct Cell<'a> {
    path: &'a Path,
    line: u64,
    column: &'a str,
    text: &'a str,
}

impl Cell<'_> {
    /// The cell's number. None if the cell is empty.
    fn number(&self, expected: &'static str) -> Result<Option<f64>, SeriesError> {
        let (path, line, column) = (self.path.to_owned(), self.line, self.column.to_owned());
        match self.text.parse::<f64>() {
            _ if self.text.is_empty() => Ok(None),
            Ok(number) if number < 0.0 => {
                Err(SeriesError::Negative { path, line, column, found: shown(self.text) })
            }
            Ok(number) if number.is_finite() => Ok(Some(number)),
            Err(_) if has_unit(self.text) => {
                Err(SeriesError::Unit { path, line, column, found: shown(self.text) })
            }
            _ => Err(SeriesError::NotNumber { path, line, column, found: shown(self.text), expected }),
        }
    }
}

/// Whether the text is a number followed by letters: `12MiB`, `4 GB`.
fn has_unit(text: &str) -> bool {
    let number = text.trim_end_matches(|letter: char| letter.is_ascii_alphabetic()).trim_end();
    number.len() < text.len() && number.parse::<f64>().is_ok()
}

fn no_step(path: &Path, line: u64) -> SeriesError {
    let (column, found) = ("step".to_owned(), String::new());
    SeriesError::NotNumber { path: path.to_owned(), line, column, found, expected: "a step" }
}

fn shown(text: &str) -> String {
    text.chars().take(SHOWN_CHARS).collect()
}

fn not_csv(path: &Path, source: csv::Error) -> SeriesError {
    let line = source.position().map_or(0, csv::Position::line);
    SeriesError::Csv { path: path.to_owned(), line, source }
}
