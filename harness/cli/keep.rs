//! Keeps a report in a folder, in every form.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::{fs, io};

use traintrue::report::pictures::Pictures;
use traintrue::report::{html, json, junit, markdown, sarif};
use traintrue_judge::verdict::RunReport;
use traintrue_memory::timeline::usual_limit;

/// The file in a report's folder whose lock says that a process writes there. The system lifts it when the process ends.
const LOCK: &str = ".lock";

/// A folder or a file that cannot be written.
#[derive(Debug, thiserror::Error)]
pub enum KeepError {
    /// A file that cannot be written.
    #[error("{path}: cannot write: {source}", path = .path.display())]
    File {
        /// The file.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
    /// A folder that another process writes its report into.
    #[error("{path}: another traintrue writes its report into this folder; wait for it, or choose another one", path = .path.display())]
    Taken {
        /// The folder.
        path: PathBuf,
    },
    /// A folder that cannot be made.
    #[error("{path}: cannot make the folder: {source}", path = .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

type Kept = Result<(), Box<dyn std::error::Error>>;

/// Writes every form of the report, and the memory of its runs.
pub fn every_form(folder: &Path, report: &RunReport) -> Kept {
    let pictures = Pictures::of(report, usual_limit)?;
    for plot in pictures.memory() {
        file(folder, &format!("plots/{}.svg", plot.name()), &plot.svg)?;
        file(folder, &format!("memory/{}.csv", plot.name()), plot.csv()?)?;
    }
    file(folder, "report.html", html::run(report, &pictures))?;
    file(folder, "report.json", json::document(report)?)?;
    file(folder, "results.sarif", json::document(&sarif::run(report))?)?;
    file(folder, "summary.md", markdown::run(report))?;
    Ok(file(folder, "junit.xml", junit::run(report)?)?)
}

/// Writes one file into the folder.
pub fn file(folder: &Path, name: &str, text: impl AsRef<[u8]>) -> Result<(), KeepError> {
    let path = folder.join(name);
    let made = path.parent().map_or(Ok(()), fs::create_dir_all);
    made.and_then(|()| fs::write(&path, text)).map_err(|source| KeepError::File { path, source })
}

/// A folder that this process alone writes its report into, as long as this lives.
pub struct Folder {
    /// Absolute: processes elsewhere write into it.
    pub path: PathBuf,
    _lock: File,
}

/// The folder, made if it is missing.
pub fn folder(path: &Path) -> Result<Folder, KeepError> {
    let failed = |source| KeepError::Folder { path: path.to_owned(), source };
    fs::create_dir_all(path).map_err(failed)?;
    let path = path.canonicalize().map_err(failed)?;
    let lock = File::create(path.join(LOCK)).map_err(failed)?;
    match lock.try_lock() {
        Err(TryLockError::WouldBlock) => Err(KeepError::Taken { path }),
        // Some file systems have no locks: two reports in one folder are then the user's to avoid.
        Ok(()) | Err(TryLockError::Error(_)) => Ok(Folder { path, _lock: lock }),
    }
}
