//! Errors of logs that cannot be read.

use std::io;
use std::path::{Path, PathBuf};

use crate::Column;
use crate::json::LIMIT_BYTES;

/// A log that cannot be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum LogError {
    #[error("{path}: cannot be read: {source}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: longer than {LIMIT_BYTES} bytes; expected a log or a configuration", path = .path.display())]
    TooLong { path: PathBuf },
    #[error("{path}: not UTF-8", path = .path.display())]
    NotUtf8 { path: PathBuf },
    #[error("{path}: {source}", path = .path.display())]
    Json { path: PathBuf, source: serde_path_to_error::Error<serde_json::Error> },
    #[error("{path}:{line}: not a JSON object: {source}; expected one per line", path = .path.display())]
    JsonLine { path: PathBuf, line: u64, source: serde_json::Error },
    #[error("{path}:{line}: the line is longer than {most} bytes; expected one log entry per line", path = .path.display())]
    LongLine { path: PathBuf, line: u64, most: u64 },
    #[error("{path}:{line}: not CSV: {source}", path = .path.display())]
    Csv { path: PathBuf, line: u64, source: csv::Error },
    #[error("{path}: column {name:?} occurs twice; each column needs its own name", path = .path.display())]
    TwiceNamed { path: PathBuf, name: String },
    #[error("{path}: byte {offset}: {problem}; the rest of the file cannot be read", path = .path.display())]
    Damaged { path: PathBuf, offset: u64, problem: &'static str },
    #[error("{path}: not {expected}: {problem}", path = .path.display())]
    OtherFormat { path: PathBuf, expected: &'static str, problem: String },
    #[error("{path}:{line}: {found:?} is not a metric of MLflow; expected timestamp, value and step", path = .path.display())]
    Metric { path: PathBuf, line: u64, found: String },
    #[error("{place}: {found:?} in column {column} is not a number", place = at(.path, *.line))]
    NotNumber { path: PathBuf, line: u64, column: String, found: String },
    #[error("{place}: the log entry has {found}, expected a step: a count of updates", place = at(.path, *.line))]
    NoStep { path: PathBuf, line: u64, found: String },
    #[error("{path}: no column {name:?} for {column}; {near}it has {names}", path = .path.display())]
    NoColumn { path: PathBuf, column: Column, name: String, near: String, names: String },
    #[error(
        "{path}: no column is known as the step; name it with --columns step=NAME; it has {names}",
        path = .path.display()
    )]
    NoStepColumn { path: PathBuf, names: String },
    #[error(
        "{path}: no row has a step and a loss, learning rate, gradient norm or memory; name the columns with --columns \
         loss=NAME,lr=NAME; it has {names}",
        path = .path.display()
    )]
    NothingKnown { path: PathBuf, names: String },
    #[error("{path}: no line matches the pattern {pattern:?}", path = .path.display())]
    NoMatch { path: PathBuf, pattern: String },
    #[error("{path}: the log of {found} and of other runs; name one of them", path = .path.display())]
    SeveralRuns { path: PathBuf, found: String },
    #[error("{path}: not a log that is known without --columns or --pattern", path = .path.display())]
    Unknown { path: PathBuf },
}

impl LogError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// A binary log has no lines: their number is then 0.
fn at(path: &Path, line: u64) -> String {
    if line == 0 { path.display().to_string() } else { format!("{}:{line}", path.display()) }
}
