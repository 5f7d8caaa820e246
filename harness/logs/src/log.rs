//! A log in the one form that rules and gates see.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use traintrue_protocol::number::Number;
use traintrue_protocol::plan::COUNT_MOST;

use crate::restarts::find_restarts;
use crate::rows::{Row, Rows};
use crate::{Column, Columns, LogError, Precision};

/// The log of a run. What its writer does not say is None.
#[derive(Clone, Debug, Default)]
pub struct Log {
    /// The file or the folder.
    pub path: PathBuf,
    /// What was logged, in order.
    pub entries: Vec<Entry>,
    /// What the steps count.
    pub counts: Counts,
    /// Entries at which a process begins to count again: a resumed run, or another one.
    pub restarts: Vec<usize>,
    /// Whether the steps start again with each epoch.
    pub steps_within_epochs: bool,
    /// Updates done, if the writer counts them beside its log.
    pub global_step: Option<u64>,
    /// Passes over the data, as a fraction, if the writer counts them beside its log.
    pub epoch: Option<f64>,
    /// Updates of the whole run.
    pub max_steps: Option<u64>,
    /// Passes of the whole run, rounded up.
    pub num_train_epochs: Option<u64>,
    /// Updates between two entries about training.
    pub logging_steps: Option<u64>,
    /// Updates between two checkpoints.
    pub save_steps: Option<u64>,
    /// The best evaluation, if the run tracks it.
    pub best: Option<Best>,
    /// Early stopping, if the run has it.
    pub patience: Option<Patience>,
    /// Whether the run had a loss scaler: then updates may be skipped. None if the log does not say.
    pub scaled: Option<bool>,
    /// What the reader of a verdict must know: which columns were read, and what was not.
    pub notes: Vec<String>,
}

/// What the steps of a log count, and so what a rule may expect of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Counts {
    /// As transformers' Trainer: updates from 1, one entry about training per step, epochs as fractions at one pace.
    Updates,
    /// Whatever the script counts.
    #[default]
    Own,
}

/// The best evaluation so far.
#[derive(Clone, Debug, PartialEq)]
pub struct Best {
    /// The value of the metric.
    pub metric: f64,
    /// The update that it came after.
    pub step: Option<u64>,
    /// The folder of its checkpoint.
    pub checkpoint: Option<String>,
}

/// Early stopping: how many evaluations without improvement it waits for, and how many it has counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Patience {
    /// Evaluations without improvement after which the run stops.
    pub patience: u64,
    /// Evaluations without improvement so far.
    pub counter: u64,
}

/// What was logged at once.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its line in the file, from 1; 0 in a binary file.
    pub line: u64,
    /// Updates done.
    pub step: u64,
    /// Passes over the data: a fraction, or the number of the current one.
    pub epoch: Option<f64>,
    /// Every number, by the name that transformers gives it; memory by its lane.
    pub figures: BTreeMap<String, Number>,
}

impl Entry {
    /// The learning rate.
    pub fn lr(&self) -> Option<Number> {
        self.figures.get(Column::Lr.figure()).copied()
    }

    /// The norm of the gradients.
    pub fn norm(&self) -> Option<Number> {
        self.figures.get(Column::GradNorm.figure()).copied()
    }

    /// The name of the evaluation's metric that has this value.
    pub fn evaluated(&self, value: f64) -> Option<&str> {
        let mut names = self.figures.iter().filter(|(name, _)| name.starts_with("eval_"));
        names.find(|(_, figure)| figure.0 == value).map(|(name, _)| name.as_str())
    }

    /// Whether the entry is about training, and not an evaluation or the final summary.
    pub fn is_training(&self) -> bool {
        self.figures.contains_key(Column::Loss.figure())
    }
}

impl Log {
    /// Updates done, as far as the log says.
    pub fn last_step(&self) -> u64 {
        let logged = || self.entries.iter().map(|it| it.step).max();
        self.global_step.or_else(logged).unwrap_or(0)
    }

    /// Passes over the data at the end of the log.
    pub fn last_epoch(&self) -> Option<f64> {
        self.epoch.or_else(|| self.entries.iter().rev().find_map(|it| it.epoch))
    }

    /// The entries that each process wrote.
    pub fn processes(&self) -> impl Iterator<Item = &[Entry]> {
        let begins = std::iter::once(0).chain(self.restarts.iter().copied());
        let ends = self.restarts.iter().copied().chain([self.entries.len()]);
        begins.zip(ends).map(|(begin, end)| &self.entries[begin..end])
    }

    /// Whether the epochs are whole numbers throughout, as where a script counts them.
    pub fn epochs_are_whole(&self) -> bool {
        self.counts == Counts::Own
            && self.entries.iter().filter_map(|it| it.epoch).all(|it| it.fract() == 0.0)
    }

    /// How the learning rates are rounded.
    pub fn precision_of_rates(&self) -> Precision {
        Precision::of(self.entries.iter().filter_map(|it| Some(it.lr()?.0)))
    }

    /// Names the columns of rows. Fails if a column that was asked for is not there, or if none is known.
    pub(crate) fn of(path: &Path, mut rows: Rows, asked: &Columns) -> Result<Self, LogError> {
        let mut log = Self { path: path.to_owned(), max_steps: rows.max_steps, ..Self::default() };
        log.notes = std::mem::take(&mut rows.notes);
        if rows.rows.is_empty() {
            return Ok(log);
        }
        let columns = Chosen::of(path, &rows, asked)?;
        log.notes.insert(0, columns.note(&rows));
        let (mut without_step, mut starts) = (0_u64, Vec::new());
        for (at, row) in rows.rows.iter().enumerate() {
            if rows.starts.binary_search(&at).is_ok() {
                starts.push(log.entries.len());
            }
            let Some(step) = columns.step(path, row)? else {
                without_step += 1;
                continue;
            };
            log.entries.extend(columns.entry(row, step, &rows.names));
        }
        if log.entries.is_empty() {
            return Err(LogError::NothingKnown { path: path.to_owned(), names: rows.listed() });
        }
        if without_step > 0 {
            log.notes.push(format!("rows without a step were not read: {without_step}"));
        }
        let fractions = log.entries.iter().filter_map(|it| it.epoch).any(|it| it.fract() != 0.0);
        let trainer = rows.counts == Counts::Updates || columns.of_trainer && fractions;
        log.counts = if trainer { Counts::Updates } else { Counts::Own };
        find_restarts(&mut log, &starts);
        Ok(log)
    }
}

/// What transformers' Trainer writes at once, as Weights & Biases has it, TensorBoard, and MLflow.
const OF_TRAINER: [&[&str]; 3] = [
    &["train/global_step", "train/epoch", "train/loss"],
    &["train/epoch", "train/loss", "train/learning_rate", "train/grad_norm"],
    &["epoch", "loss", "learning_rate", "grad_norm"],
];

/// The prefix of evaluations where a writer uses folders, as transformers' callbacks do.
const EVALUATIONS: &str = "eval/";

/// Which names of a file are which columns.
struct Chosen {
    columns: BTreeMap<Column, usize>,
    of_trainer: bool,
}

impl Chosen {
    fn of(path: &Path, rows: &Rows, asked: &Columns) -> Result<Self, LogError> {
        let mut columns = BTreeMap::new();
        for column in Column::all() {
            let at = match asked.get(column) {
                Some(name) => Some(named(path, rows, column, name)?),
                // Where each value has a step of its own, no other is guessed.
                None if column == Column::Step && rows.rows[0].step.is_some() => None,
                None => column.find(&rows.names),
            };
            columns.extend(at.map(|at| (column, at)));
        }
        for at in columns.values() {
            // Text in a column that nobody reads is no error.
            if let Some((line, found)) = rows.texts.get(at) {
                let (path, column) = (path.to_owned(), rows.names[*at].clone());
                return Err(LogError::NotNumber { path, line: *line, column, found: found.clone() });
            }
        }
        if !columns.contains_key(&Column::Step) && rows.rows[0].step.is_none() {
            return Err(LogError::NoStepColumn { path: path.to_owned(), names: rows.listed() });
        }
        let has = |name: &&str| rows.names.iter().any(|other| other == name);
        let of_trainer = *asked == Columns::default() && OF_TRAINER.iter().any(|names| names.iter().all(has));
        Ok(Self { columns, of_trainer })
    }

    fn note(&self, rows: &Rows) -> String {
        let named = |(column, at): (&Column, &usize)| format!("{column}={}", rows.names[*at]);
        format!("read as {}", self.columns.iter().map(named).collect::<Vec<_>>().join(","))
    }

    /// The step of a row. None if the row has none, as a line about the configuration.
    fn step(&self, path: &Path, row: &Row) -> Result<Option<u64>, LogError> {
        let step = match self.columns.get(&Column::Step) {
            Some(&column) => row.get(column),
            None => row.step.map(|step| step as f64),
        };
        let Some(step) = step.filter(|step| !step.is_nan()) else { return Ok(None) };
        if step < 0.0 || step.fract() != 0.0 || step > COUNT_MOST as f64 {
            let found = format!("step {step}");
            return Err(LogError::NoStep { path: path.to_owned(), line: row.line, found });
        }
        Ok(Some(step as u64))
    }

    /// None if the row has no number that is known.
    fn entry(&self, row: &Row, step: u64, names: &[String]) -> Option<Entry> {
        let mut figures = BTreeMap::new();
        for (column, at) in &self.columns {
            let value = row.get(*at).filter(|_| !matches!(column, Column::Step | Column::Epoch));
            figures.extend(value.map(|value| (column.figure().to_owned(), Number(value))));
        }
        for (at, value) in row.figures.iter().filter(|_| self.of_trainer) {
            let name = names[*at].strip_prefix(EVALUATIONS);
            figures.extend(name.map(|name| (format!("eval_{name}"), Number(*value))));
        }
        let epoch = self.columns.get(&Column::Epoch).and_then(|at| row.get(*at));
        (!figures.is_empty()).then_some(Entry { line: row.line, step, epoch, figures })
    }
}

fn named(path: &Path, rows: &Rows, column: Column, name: &str) -> Result<usize, LogError> {
    let at = rows.names.iter().position(|other| other == name);
    at.ok_or_else(|| {
        let near = rows
            .names
            .iter()
            .max_by(|a, b| strsim::jaro_winkler(a, name).total_cmp(&strsim::jaro_winkler(b, name)));
        let near = near.filter(|near| strsim::jaro_winkler(near, name) > 0.8);
        let near = near.map(|near| format!("did you mean {near:?}? ")).unwrap_or_default();
        let (path, name) = (path.to_owned(), name.to_owned());
        LogError::NoColumn { path, column, name, near, names: rows.listed() }
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn rows(of: &[&[(&str, f64)]]) -> Rows {
        let mut rows = Rows::default();
        for (at, figures) in of.iter().enumerate() {
            let figures = figures.iter().map(|(name, value)| (rows.name(name), *value)).collect();
            rows.rows.push(Row { line: at as u64 + 1, step: None, figures });
        }
        rows
    }

    fn read(of: &[&[(&str, f64)]], columns: &str) -> Result<Log, String> {
        let columns = if columns.is_empty() { Columns::default() } else { columns.parse().unwrap() };
        Log::of(Path::new("log"), rows(of), &columns).map_err(|error| error.to_string())
    }

    #[test]
    fn rows_get_the_names_that_rules_know() {
        let log = read(
            &[&[("it", 1.0), ("lr", 0.5), ("other", 9.0)], &[("it", 2.0), ("v", 3.0)]],
            "step=it,eval_loss=v",
        );
        let log = log.unwrap();
        assert_eq!(log.entries.iter().map(|it| (it.line, it.step)).collect::<Vec<_>>(), [(1, 1), (2, 2)]);
        assert_eq!(log.entries[0].figures.keys().collect::<Vec<_>>(), ["learning_rate"]);
        assert_eq!(log.entries[1].figures["eval_loss"], Number(3.0));
        assert_eq!(log.notes, ["read as step=it,lr=lr,eval_loss=v"]);
    }

    #[test]
    fn a_row_without_a_step_is_counted_and_not_an_error() {
        let log = read(&[&[("step", 1.0), ("loss", 0.5)], &[("loss", 3.0)]], "").unwrap();
        assert_eq!((log.entries.len(), log.notes[1].as_str()), (1, "rows without a step were not read: 1"));
    }

    #[rstest]
    #[case("", "log: no column is known as the step; name it with --columns step=NAME; it has at, los")]
    #[case("step=at", "log: no row has a step and a loss, learning rate")]
    #[case("step=at,loss=loss", "log: no column \"loss\" for loss; did you mean \"los\"? it has at, los")]
    #[case("step=los", "log:1: the log entry has step 0.5, expected a step")]
    fn what_cannot_be_named_is_said(#[case] columns: &str, #[case] why: &str) {
        let error = read(&[&[("at", 1.0), ("los", 0.5)]], columns).unwrap_err();
        assert!(error.starts_with(why), "{error}");
    }

    #[rstest]
    #[case(0.5, Counts::Updates)]
    #[case(1.0, Counts::Own)]
    fn the_trainer_of_transformers_is_known_by_its_names_and_fractions(
        #[case] epoch: f64,
        #[case] counts: Counts,
    ) {
        let row =
            [("step", 1.0), ("epoch", epoch), ("loss", 1.0), ("learning_rate", 1.0), ("grad_norm", 1.0)];
        assert_eq!(read(&[&row], "").unwrap().counts, counts);
    }
}
