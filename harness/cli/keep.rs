//! Keeps a report in a folder, in every form.

use std::path::{Path, PathBuf};
use std::{fs, io};

use traintrue::report::pictures::Pictures;
use traintrue::report::{html, json, junit, markdown, sarif};
use traintrue_judge::verdict::RunReport;
use traintrue_memory::timeline::usual_limit;

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

/// The folder, made if it is missing, as an absolute path: processes elsewhere write into it.
pub fn folder(path: &Path) -> Result<PathBuf, KeepError> {
    let failed = |source| KeepError::Folder { path: path.to_owned(), source };
    fs::create_dir_all(path).map_err(failed)?;
    path.canonicalize().map_err(failed)
}
