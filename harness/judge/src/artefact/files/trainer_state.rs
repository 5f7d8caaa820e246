//! `trainer_state.json` of the transformers library's `Trainer`: its counts and its log.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde_json::Value;
use traintrue_protocol::contract::{Contract, FirstLr};
use traintrue_protocol::number::Number;
use traintrue_protocol::plan::{COUNT_MOST, Plan};
use traintrue_protocol::trace::event::{Evaluation, Loss, Update};
use traintrue_protocol::trace::{Event, Line};

use super::error::{ArtefactError, parse, read_text};
use super::python_json::readable;
use crate::arithmetic::Rates;
use crate::invariants::training::schedule::TOLERANCE;

/// The state that a run saves with its checkpoint.
#[derive(Clone, Debug)]
pub struct TrainerState {
    /// The file.
    pub path: PathBuf,
    /// Updates done.
    pub global_step: u64,
    /// Passes over the data, as a fraction.
    pub epoch: Option<f64>,
    /// Updates of the whole run.
    pub max_steps: Option<u64>,
    /// Passes of the whole run, rounded up.
    pub num_train_epochs: Option<u64>,
    /// Updates between two entries of the log.
    pub logging_steps: Option<u64>,
    /// Updates between two checkpoints.
    pub save_steps: Option<u64>,
    /// The best evaluation, if the run tracks it.
    pub best: Option<Best>,
    /// The log, in order.
    pub log: Vec<Entry>,
    /// Whether a loss scaler was saved with it: then updates may be skipped.
    pub scaled: bool,
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

/// One entry of the log.
#[derive(Clone, Debug, PartialEq)]
pub struct Entry {
    /// Its line in the file, from 1.
    pub line: u64,
    /// Updates done.
    pub step: u64,
    /// Passes over the data, as a fraction.
    pub epoch: Option<f64>,
    /// Every number, by name.
    pub figures: BTreeMap<String, Number>,
}

#[derive(Deserialize)]
struct File {
    global_step: u64,
    #[serde(default)]
    epoch: Option<Number>,
    #[serde(default)]
    max_steps: Option<i64>,
    #[serde(default)]
    num_train_epochs: Option<Number>,
    #[serde(default)]
    logging_steps: Option<Number>,
    #[serde(default)]
    save_steps: Option<Number>,
    #[serde(default)]
    best_metric: Option<Number>,
    #[serde(default)]
    best_global_step: Option<u64>,
    #[serde(default)]
    best_model_checkpoint: Option<String>,
    log_history: Vec<BTreeMap<String, Value>>,
}

impl TrainerState {
    /// Reads a file. `scaled` says whether a loss scaler is saved beside it. Fails if it is not a trainer state.
    pub fn read(path: &Path, scaled: bool) -> Result<Self, ArtefactError> {
        Self::parse(path, &read_text(path)?, scaled)
    }

    /// Reads its text.
    pub fn parse(path: &Path, text: &str, scaled: bool) -> Result<Self, ArtefactError> {
        let (text, lines) = readable(text, "log_history");
        let file: File = parse(path, &text)?;
        let entries = file.log_history.into_iter().zip(lines);
        let best = file.best_metric.filter(|it| !it.0.is_nan()).map(|metric| Best {
            metric: metric.0,
            step: file.best_global_step,
            checkpoint: file.best_model_checkpoint,
        });
        Ok(Self {
            path: path.to_owned(),
            global_step: file.global_step,
            epoch: file.epoch.map(|it| it.0),
            max_steps: file.max_steps.and_then(|it| u64::try_from(it).ok()).filter(|&it| it > 0),
            num_train_epochs: file.num_train_epochs.and_then(count),
            logging_steps: file.logging_steps.and_then(count),
            save_steps: file.save_steps.and_then(count),
            best,
            log: entries.map(|(entry, line)| Entry::of(path, line, entry)).collect::<Result<_, _>>()?,
            scaled,
        })
    }

    /// Whether the log gives an update's own learning rate or already the next one's: newer releases log before
    /// scheduler.step(), older ones after it. The reading that explains more of the log wins.
    pub(crate) fn first_lr(&self, plan: &Plan) -> FirstLr {
        let explained = |first: &FirstLr| {
            let rates = Rates::of(plan, &Contract { first_lr: *first, ..Contract::default() });
            let fits =
                |(step, lr): &(u64, Number)| (rates.at(*step) - lr.0).abs() <= TOLERANCE * rates.peak.abs();
            self.log.iter().filter_map(|entry| Some((entry.step, entry.lr()?))).filter(fits).count()
        };
        let (zero, nonzero) = (explained(&FirstLr::Zero), explained(&FirstLr::Nonzero));
        if nonzero > zero { FirstLr::Nonzero } else { FirstLr::Zero }
    }

    /// The log as trace events, as far as a trace can express it: learning rates, norms and evaluation losses.
    pub(crate) fn events(&self) -> Vec<Line> {
        let line = |entry: &Entry, event| Line { number: entry.line, event };
        self.log
            .iter()
            .filter_map(|entry| match entry {
                _ if entry.lr().is_some() || entry.norm().is_some() => {
                    Some(line(entry, Event::Update(self.update(entry))))
                }
                _ if entry.is_evaluation() => Some(line(entry, Event::Evaluation(entry.evaluation()))),
                _ => None,
            })
            .collect()
    }

    fn update(&self, entry: &Entry) -> Update {
        Update {
            step: entry.step,
            micro_batches: None,
            targets: None,
            lr: entry.lr().into_iter().collect(),
            grad_norm: entry.norm(),
            clipped_norm: None,
            // A loss scaler skips the update of gradients that overflowed.
            applied: !self.scaled || entry.norm().is_none_or(Number::is_finite),
            digest: None,
            ..Default::default()
        }
    }
}

impl Entry {
    fn of(path: &Path, line: u64, fields: BTreeMap<String, Value>) -> Result<Self, ArtefactError> {
        let figures: BTreeMap<String, Number> = fields
            .into_iter()
            .filter_map(|(name, value)| Some((name, serde_json::from_value(value).ok()?)))
            .collect();
        let step = figures.get("step").copied();
        let Some(whole) = step.and_then(count_or_zero).filter(|&it| it <= COUNT_MOST) else {
            let found = step.map_or("no step".to_owned(), |step| format!("step {step}"));
            return Err(ArtefactError::NoStep { path: path.to_owned(), line, found });
        };
        let epoch = figures.get("epoch").map(|it| it.0);
        Ok(Self { line, step: whole, epoch, figures })
    }

    pub(crate) fn lr(&self) -> Option<Number> {
        self.figures.get("learning_rate").copied()
    }

    fn norm(&self) -> Option<Number> {
        self.figures.get("grad_norm").copied()
    }

    /// Whether the entry is about training, and not an evaluation or the final summary.
    pub(crate) fn is_training(&self) -> bool {
        self.figures.contains_key("loss")
    }

    fn is_evaluation(&self) -> bool {
        self.figures.keys().any(|name| name.starts_with("eval_"))
    }

    fn evaluation(&self) -> Evaluation {
        let losses = self.figures.iter().filter(|(name, _)| is_evaluation_loss(name));
        let loss = |(name, sum): (&String, &Number)| Loss::new(name, sum.0, 1);
        Evaluation {
            step: self.step,
            samples: None,
            losses: losses.map(loss).collect(),
            metric: None,
            digest_before: None,
            digest_after: None,
            rng_before: None,
            rng_after: None,
            dropped: None,
            ..Default::default()
        }
    }

    /// The numbers that [`TrainerState::events`] cannot express.
    pub(crate) fn beside_events(&self) -> impl Iterator<Item = (&str, Number)> {
        let event = |name: &str| matches!(name, "learning_rate" | "grad_norm") || is_evaluation_loss(name);
        self.figures.iter().map(|(name, it)| (name.as_str(), *it)).filter(move |(name, _)| !event(name))
    }
}

fn is_evaluation_loss(name: &str) -> bool {
    name.starts_with("eval_") && name.ends_with("loss")
}

/// A positive whole number.
fn count(it: Number) -> Option<u64> {
    count_or_zero(it).filter(|&it| it > 0)
}

fn count_or_zero(it: Number) -> Option<u64> {
    (it.0 >= 0.0 && it.0.fract() == 0.0).then_some(it.0 as u64)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::artefact::testing::state_text;

    fn read(text: &str) -> Result<TrainerState, String> {
        TrainerState::parse(Path::new("s.json"), text, false).map_err(|error| error.to_string())
    }

    #[test]
    fn a_log_with_pythons_nan_is_read_with_its_lines() {
        let text = state_text(|_| {}).replace("\"loss\": 2.5", "\"loss\": NaN");
        let state = read(&text).unwrap();
        assert_eq!((state.global_step, state.max_steps, state.num_train_epochs), (10, Some(15), Some(3)));
        let first = &state.log[0];
        assert_eq!((first.step, first.epoch), (1, Some(0.2)));
        assert!(first.figures["loss"].0.is_nan());
        let line = text.lines().nth(first.line as usize).unwrap();
        assert!(line.contains("\"epoch\": 0.2"), "the entry's first field stands on the line after: {line}");
    }

    #[rstest]
    #[case("[]", "s.json: ")]
    #[case(
        "{\"global_step\": 1.5, \"log_history\": []}",
        "s.json: global_step: invalid type: floating point"
    )]
    #[case("{\"global_step\": -1, \"log_history\": []}", "s.json: global_step: invalid value: integer `-1`")]
    #[case("{\"global_step\": 1}", "s.json: missing field `log_history`")]
    #[case("{\"global_step\": 1, \"log_history\": [1]}", "s.json: log_history[0]: invalid type: integer `1`")]
    #[case("{\"global_step\": 1, \"log_history\": [\n{}]}", "s.json:2: the log entry has no step")]
    #[case(
        "{\"global_step\": 1, \"log_history\": [\n{\"step\": NaN}]}",
        "s.json:2: the log entry has step NaN"
    )]
    #[case("{\"global_step\": 1, \"log_history\": [{\"step\": ", "s.json: log_history[0].step: EOF")]
    fn what_is_no_state_says_where(#[case] text: &str, #[case] message: &str) {
        let error = read(text).unwrap_err();
        assert!(error.starts_with(message), "{error}");
    }
}
