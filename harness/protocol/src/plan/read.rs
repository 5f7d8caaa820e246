//! Reads a plan from where a trainer is handed it.

use std::fs::File;
use std::io::{self, Read};
use std::path::Path;

use super::{Plan, PlanError};
use crate::limited;

/// A longer plan is refused: it is held in memory.
const LIMIT_BYTES: u64 = 1 << 30;

/// A plan that cannot be used, and where it came from.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PlanReadError {
    #[error("{path}: cannot read the plan: {source}")]
    Read { path: String, source: io::Error },
    #[error("{path}: the plan is longer than {LIMIT_BYTES} bytes")]
    TooLong { path: String },
    #[error("{path}: {source}")]
    Plan { path: String, source: PlanError },
}

impl Plan {
    /// Reads a plan from a file, or from standard input where none is given.
    pub fn read(path: Option<&Path>) -> Result<Self, PlanReadError> {
        let shown = path.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string());
        let from: io::Result<Box<dyn Read>> = match path {
            None => Ok(Box::new(io::stdin().lock())),
            Some(path) => File::open(path).map(|file| Box::new(file) as Box<dyn Read>),
        };
        match from.and_then(|from| limited::text(from, LIMIT_BYTES)) {
            Err(source) => Err(PlanReadError::Read { path: shown, source }),
            Ok(None) => Err(PlanReadError::TooLong { path: shown }),
            Ok(Some(text)) => {
                Self::parse(&text).map_err(|source| PlanReadError::Plan { path: shown, source })
            }
        }
    }
}
