//! The learning-rate schedule that a user declares for a script, as a word of the command line.

use std::path::Path;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use serde_json::{Map, Value};

/// `cosine(updates=600, warmup=100)` or `rates.py:rate`. The recorder computes the rates: `traintrue/schedules.py` has the
/// formulas.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[serde(untagged)]
pub enum Schedule {
    /// A form with its parameters.
    Form(Form),
    /// A Python function that gives the rate of an update, counted from 0; or a list of rates, one per group.
    Function {
        /// The Python file.
        file: String,
        /// The function's name in it.
        function: String,
    },
}

/// A form, as a multiplier of the rates that the optimizer was made with. Counts are updates, and `minimum` is a part of the
/// peak.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(tag = "name", rename_all = "snake_case", deny_unknown_fields)]
#[allow(missing_docs, reason = "the fields are those of the functions in schedules.py, which documents them")]
pub enum Form {
    Constant {
        #[serde(default)]
        warmup: u64,
        #[serde(default)]
        rising: Rising,
    },
    Linear(Decay),
    Polynomial {
        updates: u64,
        #[serde(default)]
        warmup: u64,
        #[serde(default)]
        rising: Rising,
        #[serde(default)]
        minimum: f64,
        power: f64,
    },
    Cosine(Decay),
    InverseSqrt {
        warmup: u64,
        #[serde(default)]
        rising: Rising,
        #[serde(skip_serializing_if = "Option::is_none")]
        timescale: Option<u64>,
    },
    Wsd {
        updates: u64,
        decay: u64,
        #[serde(default)]
        warmup: u64,
        #[serde(default)]
        rising: Rising,
        #[serde(default)]
        minimum: f64,
    },
}

/// A decay over so many updates, the warm-up included.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[allow(missing_docs, reason = "as for the forms")]
pub struct Decay {
    pub updates: u64,
    #[serde(default)]
    pub warmup: u64,
    #[serde(default)]
    pub rising: Rising,
    #[serde(default)]
    pub minimum: f64,
}

/// What update `u` of a warm-up, from 0, multiplies the rate by.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Rising {
    /// The first update moves nothing.
    #[default]
    #[serde(rename = "u/W")]
    FromZero,
    /// The last update of the warm-up has the peak.
    #[serde(rename = "(u+1)/W")]
    ToThePeak,
    /// The update after the warm-up is the first with the peak.
    #[serde(rename = "(u+1)/(W+1)")]
    Between,
}

impl Form {
    /// The updates that it spans, if it ends, and those of its warm-up.
    fn counts(&self) -> (Option<u64>, u64) {
        match *self {
            Self::Constant { warmup, .. } | Self::InverseSqrt { warmup, .. } => (None, warmup),
            Self::Linear(Decay { updates, warmup, .. })
            | Self::Cosine(Decay { updates, warmup, .. })
            | Self::Polynomial { updates, warmup, .. } => (Some(updates), warmup),
            Self::Wsd { updates, decay, warmup, .. } => {
                (Some(updates), warmup.saturating_add(decay.max(1) - 1))
            }
        }
    }
}

impl FromStr for Schedule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        match text.rsplit_once(':') {
            Some((file, function)) if !text.ends_with(')') => in_a_file(file, function),
            _ => form(text),
        }
    }
}

fn in_a_file(file: &str, function: &str) -> Result<Schedule, String> {
    if !Path::new(file).is_file() {
        return Err(format!("{file}: no such file; expected FILE.py:FUNCTION"));
    }
    // The script may change its folder before torch is imported.
    let file = std::path::absolute(file).map_err(|error| format!("{file}: {error}"))?;
    Ok(Schedule::Function { file: file.display().to_string(), function: function.to_owned() })
}

/// `name(parameter=value, …)`; without parameters the brackets may be left out.
fn form(text: &str) -> Result<Schedule, String> {
    let (name, parameters) = match text.split_once('(') {
        Some((name, rest)) => (name, rest.strip_suffix(')').ok_or("expected `)` at the end")?),
        None => (text, ""),
    };
    let mut fields = Map::from_iter([("name".to_owned(), Value::from(name.trim()))]);
    for parameter in parameters.split(',').map(str::trim).filter(|it| !it.is_empty()) {
        let (field, value) = parameter.split_once('=').ok_or(format!("{parameter}: expected NAME=VALUE"))?;
        let value = value.trim().trim_matches('"');
        fields.insert(field.trim().to_owned(), value.parse().unwrap_or_else(|_| Value::from(value)));
    }
    let form: Form = serde_json::from_value(Value::Object(fields)).map_err(|error| error.to_string())?;
    match form.counts() {
        (Some(updates), begins) if updates <= begins => {
            Err(format!("{updates} updates: expected more than the {begins} before the decay ends"))
        }
        (None, 0) if matches!(form, Form::InverseSqrt { timescale: None | Some(0), .. }) => {
            Err("warmup 0: an inverse square root needs a warm-up or a timescale".to_owned())
        }
        _ => Ok(Schedule::Form(form)),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("constant", r#"{"name":"constant","warmup":0,"rising":"u/W"}"#)]
    #[case(
        "cosine(updates=600, warmup=100, rising=(u+1)/W, minimum=0.1)",
        r#"{"name":"cosine","updates":600,"warmup":100,"rising":"(u+1)/W","minimum":0.1}"#
    )]
    #[case("inverse_sqrt(warmup=10)", r#"{"name":"inverse_sqrt","warmup":10,"rising":"u/W"}"#)]
    fn a_form_is_read(#[case] text: &str, #[case] json: &str) {
        let read: Schedule = text.parse().unwrap();
        assert_eq!(serde_json::to_string(&read).unwrap(), json);
    }

    #[rstest]
    #[case("cosin(updates=6)", "unknown variant `cosin`")]
    #[case("cosine(updates=6, warmpu=2)", "unknown field `warmpu`, expected one of `updates`, `warmup`")]
    #[case("cosine", "missing field `updates`")]
    #[case("cosine(updates=many)", "invalid type: string \"many\", expected u64")]
    #[case("cosine(updates=6", "expected `)`")]
    #[case("cosine(6)", "6: expected NAME=VALUE")]
    #[case("linear(updates=6, warmup=6)", "expected more than the 6")]
    #[case("inverse_sqrt(warmup=0)", "needs a warm-up")]
    #[case("linear(updates=6, rising=W)", "unknown variant `W`, expected one of `u/W`, `(u+1)/W`")]
    #[case("nowhere.py:rate", "nowhere.py: no such file")]
    fn what_is_no_schedule_is_refused(#[case] text: &str, #[case] why: &str) {
        let refused = text.parse::<Schedule>().unwrap_err();
        assert!(refused.contains(why), "{refused}");
    }
}
