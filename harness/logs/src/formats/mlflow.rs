//! MLflow's file store: a folder per run, in it `metrics/` with a file per metric, in it `timestamp value step` a line.

use std::fs;
use std::path::{Path, PathBuf};

use traintrue_protocol::limited;

use crate::LogError;
use crate::json::LIMIT_BYTES;
use crate::rows::Rows;

/// What every run and every experiment has in its folder.
pub(crate) const META: &str = "meta.yaml";
/// The folder of a run with its metrics.
pub(crate) const METRICS: &str = "metrics";

/// One line of one file.
struct Metric {
    milliseconds: i64,
    step: i64,
    name: usize,
    value: f64,
}

/// Reads the folder of a run.
pub(crate) fn read(run: &Path) -> Result<Rows, LogError> {
    let metrics = run.join(METRICS);
    let (mut rows, mut names, mut found) = (Rows::default(), Vec::new(), Vec::new());
    for file in files(&metrics)? {
        // A name with a slash is a folder and a file.
        let name = file.strip_prefix(&metrics).unwrap_or(&file).to_string_lossy().replace('\\', "/");
        read_file(&file, names.len(), &mut found, &mut rows)?;
        names.push(name);
    }
    // The files know nothing of each other. What was logged at once has one timestamp; a later step comes later.
    found.sort_by_key(|it| (it.milliseconds, it.step));
    for it in found {
        rows.scalar(it.step, &names[it.name], it.value);
    }
    Ok(rows)
}

fn read_file(path: &Path, name: usize, found: &mut Vec<Metric>, rows: &mut Rows) -> Result<(), LogError> {
    let bytes = limited::read(path, LIMIT_BYTES).map_err(LogError::io(path))?;
    let bytes = bytes.ok_or_else(|| LogError::TooLong { path: path.to_owned() })?;
    let text = String::from_utf8(bytes).map_err(|_| LogError::NotUtf8 { path: path.to_owned() })?;
    for (at, line) in text.split_inclusive('\n').enumerate() {
        // A step that is cut short is another step: a line is read only with its end.
        let Some(line) = line.strip_suffix('\n') else {
            rows.cut(&format!("the last line of {}", path.display()));
            break;
        };
        let mut words = line.split_ascii_whitespace();
        let (milliseconds, value) = (words.next().map(str::parse), words.next().map(str::parse));
        // Before MLflow 1.0 a metric had no step.
        let step = words.next().map_or(Ok(0), str::parse);
        let (Some(Ok(milliseconds)), Some(Ok(value)), Ok(step)) = (milliseconds, value, step) else {
            let (path, line) = (path.to_owned(), at as u64 + 1);
            return Err(LogError::Metric {
                path,
                line,
                found: text.lines().nth(at).unwrap_or_default().to_owned(),
            });
        };
        found.push(Metric { milliseconds, step, name, value });
    }
    Ok(())
}

/// Every file below a folder, by name.
fn files(folder: &Path) -> Result<Vec<PathBuf>, LogError> {
    let mut found = Vec::new();
    let mut folders = vec![folder.to_owned()];
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).map_err(LogError::io(&folder))? {
            let entry = entry.map_err(LogError::io(&folder))?;
            // A link could lead back to its own folder.
            let kind = entry.file_type().map_err(LogError::io(&folder))?;
            if kind.is_dir() {
                folders.push(entry.path());
            } else if kind.is_file() {
                found.push(entry.path());
            }
        }
    }
    found.sort();
    Ok(found)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn read_metrics(metrics: &[(&str, &str)]) -> Result<Rows, String> {
        let run = tempfile::tempdir().unwrap();
        for (name, text) in metrics {
            let path = run.path().join(METRICS).join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        read(run.path()).map_err(|error| error.to_string())
    }

    #[test]
    fn what_was_logged_at_once_is_a_row() {
        let rows = read_metrics(&[
            ("train/loss", "100 0.5 1\n100 nan 2\n300 0.25 2\n"),
            ("lr", "100 1e-05 1\n100 2e-05 2\n"),
        ]);
        let rows = rows.unwrap();
        assert_eq!(rows.names, ["lr", "train/loss"]);
        let sizes: Vec<_> = rows.rows.iter().map(|row| (row.step, row.figures.len())).collect();
        assert_eq!(sizes, [(Some(1), 2), (Some(2), 2), (Some(2), 1)]);
    }

    #[test]
    fn the_last_line_may_be_incomplete() {
        let rows = read_metrics(&[("loss", "1 0.5 1\n1 0.5 1")]).unwrap();
        assert_eq!((rows.rows.len(), rows.notes.len()), (1, 1));
    }

    #[rstest]
    #[case("1 0.5 1\n1 x 1\n", "loss:2: \"1 x 1\" is not a metric of MLflow")]
    #[case("\n", "loss:1: \"\" is not a metric of MLflow")]
    #[case("1 0.5 1.5\n", "loss:1: \"1 0.5 1.5\" is not a metric of MLflow")]
    fn a_line_that_is_no_metric_is_an_error(#[case] text: &str, #[case] why: &str) {
        let error = read_metrics(&[("loss", text)]).unwrap_err();
        assert!(error.contains(why), "{error}");
    }
}
