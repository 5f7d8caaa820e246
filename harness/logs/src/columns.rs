//! What a column of a log means: as the command line names it, or as the libraries that write logs call it.

use std::collections::BTreeMap;
use std::fmt;
use std::str::FromStr;

use crate::Pattern;

/// The meaning of a column.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Column {
    /// Optimizer updates done.
    Step,
    /// Passes over the data: a fraction, or the number of the current one.
    Epoch,
    /// The training loss.
    Loss,
    /// The learning rate of the only parameter group, or of the first.
    Lr,
    /// The norm of all gradients, before clipping.
    GradNorm,
    /// The loss of an evaluation.
    EvalLoss,
    /// The resident size of the process.
    Rss,
    /// The live bytes of the program's own heap.
    Heap,
    /// What the device's allocator has handed out.
    Gpu,
    /// What the device's allocator holds.
    GpuReserved,
}

/// Each column: its word on the command line, its name in a [`crate::Log`], and how libraries call it, the most
/// specific first. Read in the sources of transformers 5.23, Lightning 2.6, LLaMA-Factory 0.9.5, wandb 0.31 and
/// mlflow 3.17, and of nanoGPT for scripts of one's own.
const KNOWN: [(Column, &str, &str, &[&str]); 10] = [
    (
        Column::Step,
        "step",
        "step",
        &[
            "train/global_step",
            "trainer/global_step",
            "global_step",
            "current_steps",
            "step",
            "iteration",
            "iter",
            "_step",
        ],
    ),
    (Column::Epoch, "epoch", "epoch", &["train/epoch", "epoch"]),
    (
        Column::Loss,
        "loss",
        "loss",
        &["train/loss", "loss", "train_loss_step", "train/loss_step", "train_loss", "loss_step"],
    ),
    (Column::Lr, "lr", "learning_rate", &["train/learning_rate", "learning_rate", "train/lr", "lr"]),
    (Column::GradNorm, "grad_norm", "grad_norm", &["train/grad_norm", "grad_norm", "grad_2.0_norm_total"]),
    (Column::EvalLoss, "eval_loss", "eval_loss", &["eval/loss", "eval_loss", "val/loss", "val_loss"]),
    (Column::Rss, "rss", "rss_bytes", &["rss_bytes"]),
    (Column::Heap, "heap", "heap_bytes", &["heap_bytes"]),
    (
        Column::Gpu,
        "gpu",
        "device_in_use_bytes",
        &["device_in_use_bytes", "DeviceStatsMonitor.on_train_batch_end/allocated_bytes.all.current"],
    ),
    (
        Column::GpuReserved,
        "gpu_reserved",
        "device_reserved_bytes",
        &["device_reserved_bytes", "DeviceStatsMonitor.on_train_batch_end/reserved_bytes.all.current"],
    ),
];

/// What Lightning's LearningRateMonitor puts before the optimizer's name.
const LIGHTNING_LR: &str = "lr-";

impl Column {
    fn row(self) -> &'static (Column, &'static str, &'static str, &'static [&'static str]) {
        // The table has every column in its order.
        &KNOWN[self as usize]
    }

    /// Its name in a [`crate::Log`]: that of transformers, or that of a memory lane.
    pub fn figure(self) -> &'static str {
        self.row().2
    }

    /// Whether it holds memory.
    pub fn is_memory(self) -> bool {
        self >= Self::Rss
    }

    pub(crate) fn all() -> impl Iterator<Item = Self> {
        KNOWN.iter().map(|row| row.0)
    }

    /// The first of these names that a library uses for this column.
    pub(crate) fn find(self, names: &[String]) -> Option<usize> {
        let known = self.row().3.iter().find_map(|known| names.iter().position(|name| name == known));
        known.or_else(|| (self == Self::Lr).then(|| lightning_lr(names)).flatten())
    }
}

/// The learning rate of Lightning's monitor. None if there are several: which one the schedule is about is not known.
fn lightning_lr(names: &[String]) -> Option<usize> {
    let mut rates = names.iter().enumerate().filter(|(_, name)| {
        name.starts_with(LIGHTNING_LR) && !name.ends_with("-momentum") && !name.ends_with("-weight_decay")
    });
    rates.next().filter(|_| rates.next().is_none()).map(|(at, _)| at)
}

impl fmt::Display for Column {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.row().1)
    }
}

/// Columns by the names that a file gives them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Columns(BTreeMap<Column, String>);

impl Columns {
    /// The name that was given for a column.
    pub fn get(&self, column: Column) -> Option<&str> {
        self.0.get(&column).map(String::as_str)
    }

    /// The columns that were named.
    pub fn named(&self) -> impl Iterator<Item = (Column, &str)> {
        self.0.iter().map(|(column, name)| (*column, name.as_str()))
    }
}

/// What the command line says of how a log is read.
#[derive(Clone, Debug, Default)]
pub struct Layout {
    /// Columns that are named as no library does.
    pub columns: Columns,
    /// The expression that finds a row in a line of standard output.
    pub pattern: Option<Pattern>,
}

impl Layout {
    /// Whether anything was said, so that a file of any name is a log.
    pub fn is_any(&self) -> bool {
        self.pattern.is_some() || self.columns != Columns::default()
    }
}

/// A text that names no columns.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ColumnsError {
    #[error("{text:?} is not COLUMN=NAME; expected for example step=global_step,loss=train/loss")]
    NoName { text: String },
    #[error("unknown column {word:?}; expected one of {}", words())]
    Unknown { word: String },
    #[error("column {column} is named twice")]
    Twice { column: Column },
}

/// Every word of a column, for errors.
pub(crate) fn words() -> String {
    KNOWN.map(|row| row.1).join(", ")
}

impl FromStr for Column {
    type Err = ColumnsError;

    fn from_str(word: &str) -> Result<Self, ColumnsError> {
        let row = KNOWN.iter().find(|row| row.1 == word);
        row.map(|row| row.0).ok_or_else(|| ColumnsError::Unknown { word: word.to_owned() })
    }
}

impl FromStr for Columns {
    type Err = ColumnsError;

    fn from_str(text: &str) -> Result<Self, ColumnsError> {
        let mut columns = BTreeMap::new();
        for part in text.split(',') {
            let no_name = || ColumnsError::NoName { text: part.to_owned() };
            let (word, name) =
                part.split_once('=').filter(|(_, name)| !name.is_empty()).ok_or_else(no_name)?;
            let column = word.trim().parse()?;
            if columns.insert(column, name.to_owned()).is_some() {
                return Err(ColumnsError::Twice { column });
            }
        }
        Ok(Self(columns))
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[test]
    fn every_column_is_at_its_place_in_the_table() {
        for (at, row) in KNOWN.iter().enumerate() {
            assert_eq!((row.0 as usize, row.0.to_string().parse()), (at, Ok(row.0)));
        }
    }

    #[rstest]
    #[case("step=global_step,loss=train/loss", &[(Column::Step, "global_step"), (Column::Loss, "train/loss")])]
    #[case("rss=a=b", &[(Column::Rss, "a=b")])]
    fn columns_are_named(#[case] text: &str, #[case] named: &[(Column, &str)]) {
        assert_eq!(text.parse::<Columns>().unwrap().named().collect::<Vec<_>>(), named);
    }

    #[rstest]
    #[case("", "\"\" is not COLUMN=NAME")]
    #[case("step=", "\"step=\" is not COLUMN=NAME")]
    #[case("stp=step", "unknown column \"stp\"; expected one of step, epoch, loss, lr")]
    #[case("lr=a,lr=b", "column lr is named twice")]
    fn what_names_no_column_is_refused(#[case] text: &str, #[case] why: &str) {
        let error = text.parse::<Columns>().unwrap_err().to_string();
        assert!(error.starts_with(why), "{error}");
    }

    #[rstest]
    #[case(&["lr-AdamW", "lr-AdamW-momentum"], Some(0))]
    #[case(&["lr-AdamW/pg1", "lr-AdamW/pg2"], None)]
    #[case(&["lr-AdamW", "lr"], Some(1))]
    #[case(&["loss"], None)]
    fn the_rate_of_lightnings_monitor_is_known_if_it_is_the_only_one(
        #[case] names: &[&str],
        #[case] at: Option<usize>,
    ) {
        let names: Vec<String> = names.iter().map(|name| (*name).to_owned()).collect();
        assert_eq!(Column::Lr.find(&names), at);
    }
}
