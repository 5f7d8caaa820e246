//! `trainer_state.json` of the transformers library's `Trainer`: its counts and its log.

use std::collections::BTreeMap;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use traintrue_protocol::number::Number;
use traintrue_protocol::plan::COUNT_MOST;

use crate::python_json::readable;
use crate::{Best, Counts, Entry, Log, LogError, Patience, json};

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
    #[serde(default)]
    stateful_callbacks: BTreeMap<String, Value>,
    log_history: Vec<BTreeMap<String, Value>>,
}

/// Reads a file. `scaled` says whether a loss scaler is saved beside it. Fails if it is not a trainer state.
pub fn read(path: &Path, scaled: bool) -> Result<Log, LogError> {
    parse(path, &json::read_text(path)?, scaled)
}

/// Reads its text.
pub fn parse(path: &Path, text: &str, scaled: bool) -> Result<Log, LogError> {
    let (text, lines) = readable(text, "log_history");
    let file: File = json::parse(path, &text)?;
    let entries = file.log_history.into_iter().zip(lines);
    let best = file.best_metric.filter(|it| !it.0.is_nan()).map(|metric| Best {
        metric: metric.0,
        step: file.best_global_step,
        checkpoint: file.best_model_checkpoint,
    });
    Ok(Log {
        path: path.to_owned(),
        entries: entries.map(|(fields, line)| entry(path, line, fields)).collect::<Result<_, _>>()?,
        counts: Counts::Updates,
        global_step: Some(file.global_step),
        epoch: file.epoch.map(|it| it.0),
        max_steps: file.max_steps.and_then(|it| u64::try_from(it).ok()).filter(|&it| it > 0),
        num_train_epochs: file.num_train_epochs.and_then(count),
        logging_steps: file.logging_steps.and_then(count),
        save_steps: file.save_steps.and_then(count),
        best,
        patience: file.stateful_callbacks.get("EarlyStoppingCallback").and_then(patience),
        scaled: Some(scaled),
        ..Log::default()
    })
}

/// What transformers' EarlyStoppingCallback saves of itself.
fn patience(callback: &Value) -> Option<Patience> {
    Some(Patience {
        patience: callback["args"]["early_stopping_patience"].as_u64()?,
        counter: callback["attributes"]["early_stopping_patience_counter"].as_u64()?,
    })
}

fn entry(path: &Path, line: u64, fields: BTreeMap<String, Value>) -> Result<Entry, LogError> {
    let figures: BTreeMap<String, Number> = fields
        .into_iter()
        .filter_map(|(name, value)| Some((name, serde_json::from_value(value).ok()?)))
        .collect();
    let step = figures.get("step").copied();
    let Some(whole) = step.and_then(count_or_zero).filter(|&it| it <= COUNT_MOST) else {
        let found = step.map_or("no step".to_owned(), |step| format!("step {step}"));
        return Err(LogError::NoStep { path: path.to_owned(), line, found });
    };
    let epoch = figures.get("epoch").map(|it| it.0);
    Ok(Entry { line, step: whole, epoch, figures })
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

    const STATE: &str = "{\"global_step\": 2, \"epoch\": 0.4, \"max_steps\": 15, \"num_train_epochs\": 3,\n\
                         \"log_history\": [\n{\n\"epoch\": 0.2, \"loss\": NaN, \"step\": 1},\n{\"step\": 2}]}";

    #[test]
    fn a_log_with_pythons_nan_is_read_with_its_lines() {
        let log = parse(Path::new("s.json"), STATE, false).unwrap();
        assert_eq!((log.global_step, log.max_steps, log.num_train_epochs), (Some(2), Some(15), Some(3)));
        let first = &log.entries[0];
        assert_eq!((first.line, first.step, first.epoch), (3, 1, Some(0.2)));
        assert!(first.figures["loss"].0.is_nan());
        assert_eq!(log.entries[1].line, 5);
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
        let error = parse(Path::new("s.json"), text, false).unwrap_err().to_string();
        assert!(error.starts_with(message), "{error}");
    }
}
