//! Errors of files with memory series.

use std::path::PathBuf;

use traintrue_logs::LogError;
use traintrue_protocol::trace::TraceError;

/// A file from which no series can be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SeriesError {
    #[error("{path}: cannot read the series: {source}", path = .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}:{line}: not CSV: {source}", path = .path.display())]
    Csv { path: PathBuf, line: u64, source: csv::Error },
    #[error("{path}: the file is empty; expected a header (step, then one or more lanes in bytes) and rows", path = .path.display())]
    Empty { path: PathBuf },
    #[error("{path}:1: the first column is {found:?}, expected step; of a log, name the columns with --columns step=NAME,rss=NAME", path = .path.display())]
    NoStep { path: PathBuf, found: String },
    #[error("{path}:1: there is no lane beside step; expected one or more columns in bytes", path = .path.display())]
    NoLanes { path: PathBuf },
    #[error("{path}:1: column {column} is {found:?}, which is empty or occurs twice; each lane needs its own name", path = .path.display())]
    LaneName { path: PathBuf, column: usize, found: String },
    #[error("{path}: no lane {lane:?}; it has {lanes}", path = .path.display())]
    NoLane { path: PathBuf, lane: String, lanes: String },
    #[error("{path}: lane {lane} has no row", path = .path.display())]
    NoRow { path: PathBuf, lane: String },
    #[error("{path}:{line}: column {column}: {found:?} is not {expected}", path = .path.display())]
    NotNumber { path: PathBuf, line: u64, column: String, found: String, expected: &'static str },
    #[error("{path}:{line}: column {column}: {found:?} has a unit; expected plain bytes", path = .path.display())]
    Unit { path: PathBuf, line: u64, column: String, found: String },
    #[error("{path}:{line}: column {column}: {found} is negative; expected at least 0", path = .path.display())]
    Negative { path: PathBuf, line: u64, column: String, found: String },
    #[error("{path}:{line}: step {found} comes after step {before}; steps must rise from row to row", path = .path.display())]
    Unsorted { path: PathBuf, line: u64, before: f64, found: f64 },
    #[error("{path}: the trace has no memory sampled after an update; the plan's sample_memory must name update", path = .path.display())]
    NoSamples { path: PathBuf },
    #[error(
        "{path}: no column of memory is known; name one with --columns rss=NAME, heap=NAME, gpu=NAME or gpu_reserved=NAME",
        path = .path.display()
    )]
    NoMemory { path: PathBuf },
    #[error(
        "{path}: lane {lane} holds at most {most}, which is not a number of bytes; give its unit, such as --unit GiB",
        path = .path.display()
    )]
    NotBytes { path: PathBuf, lane: String, most: f64 },
    #[error(transparent)]
    Log(#[from] LogError),
    #[error(transparent)]
    Trace(#[from] TraceError),
}
