//! Which format a path has. No other module knows the names of log files.

use std::fs;
use std::path::{Path, PathBuf};

use crate::formats::{json_lines, mlflow, table, tensorboard, text, wandb};
use crate::{Layout, Log, LogError};

/// What every run file of wandb ends with.
const WANDB: &str = "wandb";

/// A log of a known format.
#[derive(Debug, PartialEq)]
enum Found {
    EventFiles(Vec<PathBuf>),
    MlflowRun(PathBuf),
    Wandb(PathBuf),
    LlamaFactory(PathBuf),
    Table(PathBuf),
    JsonLines(PathBuf),
    Text(PathBuf),
}

/// Whether a path is a log that [`read`] can read. With columns or a pattern, a file of any name is.
pub fn is_log(path: &Path, layout: &Layout) -> Result<bool, LogError> {
    Ok(find(path, layout)?.is_some())
}

/// Reads a log.
pub fn read(path: &Path, layout: &Layout) -> Result<Log, LogError> {
    let found = find(path, layout)?.ok_or_else(|| LogError::Unknown { path: path.to_owned() })?;
    let rows = match (&found, &layout.pattern) {
        (Found::EventFiles(files), _) => tensorboard::read(files),
        (Found::MlflowRun(run), _) => mlflow::read(run),
        (Found::Wandb(file), _) => wandb::read(file),
        (Found::LlamaFactory(file), _) => json_lines::read_llama_factory(file),
        (Found::JsonLines(file), _) => json_lines::read(file),
        (Found::Text(file), Some(pattern)) => text::read(file, pattern),
        (Found::Table(file) | Found::Text(file), _) => table::read(file),
    };
    Log::of(path, rows?, &layout.columns)
}

fn find(path: &Path, layout: &Layout) -> Result<Option<Found>, LogError> {
    if path.is_dir() { folder(path) } else { Ok(file(path, layout)) }
}

fn file(path: &Path, layout: &Layout) -> Option<Found> {
    let (name, here) = (name(path), || path.to_owned());
    let ends = |extension: &str| path.extension().is_some_and(|it| it == extension);
    match name {
        _ if !path.is_file() => None,
        _ if layout.pattern.is_some() => Some(Found::Text(here())),
        _ if name.contains(tensorboard::IN_NAME) => Some(Found::EventFiles(vec![here()])),
        _ if ends(WANDB) => Some(Found::Wandb(here())),
        json_lines::LLAMA_FACTORY => Some(Found::LlamaFactory(here())),
        _ if ends("csv") => Some(Found::Table(here())),
        _ if layout.is_any() => Some(Found::JsonLines(here())),
        _ => None,
    }
}

fn folder(path: &Path) -> Result<Option<Found>, LogError> {
    let mut files = Vec::new();
    for entry in fs::read_dir(path).map_err(LogError::io(path))? {
        files.push(entry.map_err(LogError::io(path))?.path());
    }
    files.sort();
    let named = |wanted: &str| files.iter().find(|file| name(file) == wanted).cloned();
    let events: Vec<PathBuf> =
        files.iter().filter(|file| name(file).contains(tensorboard::IN_NAME)).cloned().collect();
    let of_wandb: Vec<&PathBuf> =
        files.iter().filter(|file| file.extension().is_some_and(|it| it == WANDB)).collect();
    let runs: Vec<&PathBuf> = files.iter().filter(|file| file.join(mlflow::META).is_file()).collect();
    let several = |run: &Path| LogError::SeveralRuns { path: path.to_owned(), found: name(run).to_owned() };
    Ok(match (of_wandb.as_slice(), named(mlflow::META), named(mlflow::METRICS)) {
        _ if !events.is_empty() => Some(Found::EventFiles(events)),
        (_, Some(_), Some(_)) => Some(Found::MlflowRun(path.to_owned())),
        (_, _, None) if !runs.is_empty() => return Err(several(runs[0])),
        ([run], ..) => Some(Found::Wandb((*run).clone())),
        ([run, ..], ..) => return Err(several(run)),
        _ if name(path) == mlflow::METRICS && path.with_file_name(mlflow::META).is_file() => {
            path.parent().map(|run| Found::MlflowRun(run.to_owned()))
        }
        _ => named(json_lines::LLAMA_FACTORY)
            .map(Found::LlamaFactory)
            .or_else(|| named(table::LIGHTNING).map(Found::Table)),
    })
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn folder_of(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            let path = folder.path().join(file);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, "").unwrap();
        }
        folder
    }

    #[rstest]
    #[case::tensorboard(&["events.out.tfevents.2.b", "events.out.tfevents.1.a", "hparams.yaml"], "", "EventFiles([events.out.tfevents.1.a, events.out.tfevents.2.b])")]
    #[case::one(&["events.out.tfevents.1.a"], "events.out.tfevents.1.a", "EventFiles([events.out.tfevents.1.a])")]
    #[case::mlflow(&["run/meta.yaml", "run/metrics/loss"], "run", "MlflowRun(run)")]
    #[case::metrics(&["run/meta.yaml", "run/metrics/loss"], "run/metrics", "MlflowRun(run)")]
    #[case::wandb(&["run-1.wandb", "files/config.yaml"], "", "Wandb(run-1.wandb)")]
    #[case::lightning(&["metrics.csv", "hparams.yaml"], "", "Table(metrics.csv)")]
    #[case::llama_factory(&["trainer_log.jsonl"], "trainer_log.jsonl", "LlamaFactory(trainer_log.jsonl)")]
    #[case::trace(&["run.jsonl"], "run.jsonl", "none")]
    #[case::nothing(&["notes.txt"], "", "none")]
    #[case::missing(&[], "gone.csv", "none")]
    fn a_log_is_known_by_its_names(#[case] files: &[&str], #[case] path: &str, #[case] expected: &str) {
        let folder = folder_of(files);
        let found = find(&folder.path().join(path), &Layout::default()).unwrap();
        let found = found.map_or("none".to_owned(), |found| format!("{found:?}"));
        let root = format!("{}/", folder.path().display());
        assert_eq!(found.replace(&root, "").replace('"', ""), expected);
    }

    #[test]
    fn a_folder_of_runs_is_an_error_that_names_one() {
        let folder = folder_of(&["meta.yaml", "7/meta.yaml", "7/metrics/loss"]);
        let error = find(folder.path(), &Layout::default()).unwrap_err().to_string();
        assert!(error.ends_with("the log of 7 and of other runs; name one of them"), "{error}");
    }

    #[test]
    fn with_columns_or_a_pattern_a_file_of_any_name_is_a_log() {
        let folder = folder_of(&["a.jsonl", "b.log"]);
        let columns = Layout { columns: "step=s".parse().unwrap(), pattern: None };
        let pattern = Layout { pattern: Some("(?P<step>.)".parse().unwrap()), ..Layout::default() };
        let found = |name: &str, layout: &Layout| find(&folder.path().join(name), layout).unwrap().unwrap();
        assert!(matches!(found("a.jsonl", &columns), Found::JsonLines(_)));
        assert!(matches!(found("b.log", &pattern), Found::Text(_)));
    }
}
