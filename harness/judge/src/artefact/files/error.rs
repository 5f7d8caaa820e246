//! Errors of files that cannot be judged.

use std::io;
use std::path::{Path, PathBuf};

use traintrue_protocol::limited;
use traintrue_protocol::plan::PlanError;

use super::contents::LOOKED_FOR;

/// A longer JSON file is neither a log nor a configuration, and is not read into memory.
pub(super) const JSON_LIMIT_BYTES: u64 = 256 << 20;

/// A file or folder that cannot be judged.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ArtefactError {
    #[error("{path}: cannot be read: {source}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: nothing that can be judged: {found}; looked for {LOOKED_FOR}", path = .path.display())]
    Unknown { path: PathBuf, found: String },
    #[error(
        "{path}: a pickle; loading it runs code, so traintrue never opens it; save the tensors as safetensors",
        path = .path.display()
    )]
    Pickle { path: PathBuf },
    #[error("{path}: {missing} is missing beside it; an adapter is judged by both files", path = .path.display())]
    Alone { path: PathBuf, missing: &'static str },
    #[error("{path}: not a safetensors file: {problem}", path = .path.display())]
    Safetensors { path: PathBuf, problem: String },
    #[error("{path}: longer than {JSON_LIMIT_BYTES} bytes; expected a log or a configuration", path = .path.display())]
    TooLong { path: PathBuf },
    #[error("{path}: not UTF-8", path = .path.display())]
    NotUtf8 { path: PathBuf },
    #[error("{path}: {source}", path = .path.display())]
    Json { path: PathBuf, source: serde_path_to_error::Error<serde_json::Error> },
    #[error("{path}:{line}: the log entry has {found}, expected a step: a count of updates", path = .path.display())]
    NoStep { path: PathBuf, line: u64, found: String },
    #[error("{path}: weight_map: {file:?} is not a file beside the index", path = .path.display())]
    Elsewhere { path: PathBuf, file: String },
    #[error("--lr, --schedule, --warmup, --updates, --accumulation or --epochs: {0}")]
    Given(PlanError),
    #[error(
        "{later}: holds {what}, and {earlier} does not; --against compares two checkpoints of one run",
        later = .later.display(), earlier = .earlier.display()
    )]
    Unlike { later: PathBuf, earlier: PathBuf, what: &'static str },
    #[error(
        "--against {earlier}: it has {earlier_step} updates and {later} has {later_step}; name the earlier checkpoint",
        later = .later.display(), earlier = .earlier.display()
    )]
    Order { later: PathBuf, later_step: u64, earlier: PathBuf, earlier_step: u64 },
}

impl ArtefactError {
    pub(crate) fn io(path: &Path) -> impl FnOnce(io::Error) -> Self {
        let path = path.to_owned();
        move |source| Self::Io { path, source }
    }
}

/// The text of a JSON file of at most [`JSON_LIMIT_BYTES`].
pub(crate) fn read_text(path: &Path) -> Result<String, ArtefactError> {
    let bytes = limited::read(path, JSON_LIMIT_BYTES).map_err(ArtefactError::io(path))?;
    let bytes = bytes.ok_or_else(|| ArtefactError::TooLong { path: path.to_owned() })?;
    String::from_utf8(bytes).map_err(|_| ArtefactError::NotUtf8 { path: path.to_owned() })
}

/// A JSON document; the error names the field.
pub(crate) fn parse<'a, T: serde::Deserialize<'a>>(path: &Path, text: &'a str) -> Result<T, ArtefactError> {
    let document = &mut serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(document)
        .map_err(|source| ArtefactError::Json { path: path.to_owned(), source })
}
