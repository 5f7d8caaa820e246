//! `ci/memory-limits.toml`: limits for each lane of each scenario on each device, and the values that were accepted
//! last.
//!
//! ```toml
//! [[limit]]
//! scenario = "flat-memory-1000-steps"
//! run = "thousand"
//! device = "ndarray"
//! lane = "rss_bytes"
//! max_slope = "4KiB/step"
//! max_peak = "256MiB"
//! baseline = { slope_bytes_per_step = 12.5, peak_bytes = 98304000 }
//! ```
//!
//! People write the limits. `accept` writes the baselines and leaves the rest of the file as it is.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};
use toml_edit::{DocumentMut, InlineTable, Item, value};

use super::Judged;
use crate::bytes::{Bytes, BytesError, BytesPerStep};
use crate::series::Ran;

/// A limits file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum LimitsError {
    #[error("{path}: cannot read the limits: {source}", path = .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}: not a limits file: {message}", path = .path.display())]
    Toml { path: PathBuf, message: String },
    #[error("{path}: {limit}: {source}", path = .path.display())]
    Amount { path: PathBuf, limit: String, source: BytesError },
    #[error("{path}: {limit} has no limit; expected max_slope or max_peak", path = .path.display())]
    Nothing { path: PathBuf, limit: String },
    #[error("{path}: {limit} occurs twice; keep one of them", path = .path.display())]
    Twice { path: PathBuf, limit: String },
    #[error("{path}: the file has no [[limit]]; expected one or more", path = .path.display())]
    Empty { path: PathBuf },
}

/// The values that were accepted last.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Baseline {
    /// The growth that persisted.
    pub slope_bytes_per_step: f64,
    /// The most that was held.
    pub peak_bytes: u64,
}

/// The limit on one lane of one scenario on one device.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Limit {
    /// The scenario.
    pub scenario: String,
    /// The run. None means every run of the scenario.
    pub run: Option<String>,
    /// The device: `ndarray`, or `cuda` for every CUDA device.
    pub device: String,
    /// The lane.
    pub lane: String,
    /// The largest growth.
    pub max_slope: Option<BytesPerStep>,
    /// The largest peak.
    pub max_peak: Option<Bytes>,
    /// The values that were accepted last.
    pub baseline: Option<Baseline>,
}

/// A limits file.
#[derive(Clone, Debug)]
pub struct Limits {
    document: DocumentMut,
    limits: Vec<Limit>,
}

/// A limit as the file has it.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Written {
    scenario: String,
    run: Option<String>,
    device: String,
    lane: String,
    max_slope: Option<String>,
    max_peak: Option<String>,
    baseline: Option<Baseline>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    #[serde(default)]
    limit: Vec<Written>,
}

impl Limits {
    /// Reads a file. Fails if it is not TOML, has an unknown field, or has a limit without a value, without a unit, or
    /// twice.
    pub fn load(path: &Path) -> Result<Self, LimitsError> {
        let text = std::fs::read_to_string(path);
        Self::parse(path, &text.map_err(|source| LimitsError::Io { path: path.to_owned(), source })?)
    }

    pub(super) fn parse(path: &Path, text: &str) -> Result<Self, LimitsError> {
        let toml =
            |message: String| LimitsError::Toml { path: path.to_owned(), message: message.trim().to_owned() };
        let document = text.parse().map_err(|error: toml_edit::TomlError| toml(error.to_string()))?;
        let file: File = toml::from_str(text).map_err(|error| toml(error.to_string()))?;
        if file.limit.is_empty() {
            return Err(LimitsError::Empty { path: path.to_owned() });
        }
        let mut limits: Vec<Limit> = Vec::new();
        for (at, written) in file.limit.into_iter().enumerate() {
            let name =
                format!("limit {} ({}, {}, {})", at + 1, written.lane, written.scenario, written.device);
            let limit = written.limit(path, &name)?;
            if limits.iter().any(|other| other.key() == limit.key()) {
                return Err(LimitsError::Twice { path: path.to_owned(), limit: name });
            }
            limits.push(limit);
        }
        Ok(Self { document, limits })
    }

    /// The limits on a run. A device without a number means every device of its kind: `cuda` matches `cuda:0`.
    pub fn of_run<'a>(&'a self, run: &'a Ran) -> impl Iterator<Item = &'a Limit> {
        self.limits.iter().filter(move |limit| {
            let named = limit.run.as_ref().is_none_or(|name| *name == run.run);
            limit.scenario == run.scenario && named && limit.is_on(&run.device)
        })
    }

    /// The scenarios that have limits on this device, each once.
    pub fn scenarios(&self, device: &str) -> Vec<String> {
        let there = self.limits.iter().filter(|limit| limit.is_on(device));
        there.map(|limit| limit.scenario.clone()).collect::<BTreeSet<_>>().into_iter().collect()
    }

    /// The limit on one lane of a run.
    pub fn find<'a>(&'a self, run: &'a Ran, lane: &str) -> Option<&'a Limit> {
        self.of_run(run).find(|limit| limit.lane == lane)
    }

    /// The text of the file with the measured slopes and peaks as baselines. Everything else stays, comments included.
    pub fn with_baseline(&self, measured: &[Judged]) -> String {
        let mut document = self.document.clone();
        let Some(tables) = document.get_mut("limit").and_then(Item::as_array_of_tables_mut) else {
            return document.to_string();
        };
        for judged in measured {
            let Some(limit) = judged.run.as_ref().and_then(|run| self.find(run, &judged.lane)) else {
                continue;
            };
            // The document keeps comments and order, so the entry is edited in place.
            let at = self.limits.iter().position(|other| other.key() == limit.key());
            let Some(table) = at.and_then(|at| tables.get_mut(at)) else { continue };
            if judged.steps == 0 {
                continue;
            }
            let mut baseline = InlineTable::new();
            let tenths = (judged.slope_per_step * 10.0).round() / 10.0;
            baseline.insert("slope_bytes_per_step", tenths.into());
            baseline.insert("peak_bytes", i64::try_from(judged.peak).unwrap_or(i64::MAX).into());
            table["baseline"] = value(baseline);
        }
        document.to_string()
    }
}

impl Written {
    fn limit(self, path: &Path, name: &str) -> Result<Limit, LimitsError> {
        let (path, limit) = (|| path.to_owned(), || name.to_owned());
        let amount = |source| LimitsError::Amount { path: path(), limit: limit(), source };
        let max_slope = self.max_slope.map(|text| text.parse()).transpose().map_err(amount)?;
        let max_peak = self.max_peak.map(|text| text.parse()).transpose().map_err(amount)?;
        if max_slope.is_none() && max_peak.is_none() {
            return Err(LimitsError::Nothing { path: path(), limit: limit() });
        }
        let Self { scenario, run, device, lane, baseline, .. } = self;
        Ok(Limit { scenario, run, device, lane, max_slope, max_peak, baseline })
    }
}

impl Limit {
    /// Whether the limit is for this device. A device without a number means every device of its kind.
    fn is_on(&self, device: &str) -> bool {
        self.device == device || device.split(':').next() == Some(&self.device)
    }

    fn key(&self) -> (&str, Option<&str>, &str, &str) {
        (&self.scenario, self.run.as_deref(), &self.device, &self.lane)
    }
}
