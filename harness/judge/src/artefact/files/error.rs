//! Errors of files that cannot be judged.

use std::io;
use std::path::{Path, PathBuf};

use traintrue_logs::LogError;
use traintrue_protocol::plan::PlanError;

use super::contents::LOOKED_FOR;

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
    #[error(transparent)]
    Log(#[from] LogError),
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
