//! `traintrue.toml`: what a repository says once about its trainer.
//!
//! ```toml
//! catalogue = "0.1"                      # scenarios that came after it are named and not run
//! scenarios = "tests/scenarios"          # its own, beside ours
//!
//! [trainer]
//! command = "python train.py"
//! contract = { deterministic = false }   # what its own description lacks or has wrong
//!
//! [limits]
//! timeout_seconds = 120
//! jobs = 2
//! trace = "1GiB"
//!
//! [[waive]]
//! scenario = "resume-mid-window"         # or an invariant, or both
//! reason = "the sampler is not saved before release 3"
//! until = 2027-03-31
//! ```
//!
//! The command line goes over the file. Paths are relative to the file.

use std::num::{NonZeroU16, NonZeroU32};
use std::path::{Path, PathBuf};

use jiff::civil::Date;
use serde::Deserialize;
use toml::Spanned;
use toml::value::Datetime;
use traintrue_judge::rules;
use traintrue_memory::bytes::Bytes;
use traintrue_protocol::contract::Stated;
use traintrue_protocol::nearest::hint;

use crate::scenario::{Catalogue, CatalogueError, Pin, Version, line_of};

/// The file that is looked for in the working directory.
pub const FILE_NAME: &str = "traintrue.toml";

/// What the file says.
#[derive(Clone, Debug, Default)]
pub struct Config {
    /// Where it was read.
    pub path: PathBuf,
    /// The command of the trainer, without its verb.
    pub trainer: Option<String>,
    /// Conventions that are stated in place of the trainer's own.
    pub contract: Stated,
    /// A folder of its own scenarios.
    pub scenarios: Option<PathBuf>,
    /// The newest scenarios that are wanted.
    pub catalogue: Option<Pin>,
    /// Seconds that one process may take.
    pub timeout_seconds: Option<NonZeroU32>,
    /// Processes at one time.
    pub jobs: Option<NonZeroU16>,
    /// What one trace may grow to.
    pub trace: Option<Bytes>,
    /// Failures that are known.
    pub waivers: Vec<Waiver>,
}

/// A known failure: of a scenario, of an invariant, or of the one in the other.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiver {
    /// The scenario's id; absent is each.
    pub scenario: Option<String>,
    /// The invariant's name; absent is each.
    pub invariant: Option<String>,
    /// Why it is waived.
    pub reason: String,
    /// The last day.
    pub until: Date,
    /// Its line in the file.
    pub line: u64,
}

/// A file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ConfigError {
    #[error("{path}: cannot read the configuration: {source}", path = .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}:{line}: {message}", path = .path.display())]
    Toml { path: PathBuf, line: usize, message: String },
    #[error("{path}:{line}: {field}: {problem}", path = .path.display())]
    Field { path: PathBuf, line: usize, field: String, problem: String },
    #[error(transparent)]
    Catalogue(#[from] CatalogueError),
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct File {
    catalogue: Option<Spanned<String>>,
    scenarios: Option<PathBuf>,
    #[serde(default)]
    trainer: Trainer,
    #[serde(default)]
    limits: Limits,
    #[serde(default)]
    waive: Vec<Spanned<Waive>>,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Trainer {
    command: Option<String>,
    #[serde(default)]
    contract: Stated,
}

#[derive(Default, Deserialize)]
#[serde(deny_unknown_fields)]
struct Limits {
    timeout_seconds: Option<NonZeroU32>,
    jobs: Option<NonZeroU16>,
    trace: Option<Spanned<String>>,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Waive {
    scenario: Option<String>,
    invariant: Option<String>,
    reason: String,
    until: Datetime,
}

/// Where messages point to.
struct Source<'a> {
    path: &'a Path,
    text: &'a str,
}

impl Config {
    /// The file at `path`; without one, that of the working directory, or nothing where there is none.
    pub fn find(path: Option<&Path>) -> Result<Option<Self>, ConfigError> {
        let here = Path::new(FILE_NAME);
        match path {
            Some(path) => Self::load(path).map(Some),
            None if here.exists() => Self::load(here).map(Some),
            None => Ok(None),
        }
    }

    fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path);
        Self::parse(path, &text.map_err(|source| ConfigError::Io { path: path.to_owned(), source })?)
    }

    /// Parses the text of one file; `path` is for messages and for what it names.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ConfigError> {
        let source = Source { path, text };
        let file: File = toml::from_str(text).map_err(|error| ConfigError::Toml {
            path: path.to_owned(),
            line: line_of(text, error.span()),
            message: error.message().to_owned(),
        })?;
        let folder = path.parent().unwrap_or(Path::new(""));
        Ok(Self {
            path: path.to_owned(),
            trainer: file.trainer.command,
            contract: file.trainer.contract,
            scenarios: file.scenarios.map(|scenarios| folder.join(scenarios)),
            catalogue: file.catalogue.map(|pin| source.pin(&pin)).transpose()?,
            timeout_seconds: file.limits.timeout_seconds,
            jobs: file.limits.jobs,
            trace: file.limits.trace.map(|trace| source.bytes(&trace)).transpose()?,
            waivers: file.waive.into_iter().map(|waive| source.waiver(waive)).collect::<Result<_, _>>()?,
        })
    }

    /// Checks that each waiver names what is there: one that does not would never be used.
    pub fn check(&self, catalogue: &Catalogue) -> Result<(), ConfigError> {
        let unknown = |waiver: &Waiver, field: &str, name: &str, hint: String| {
            let problem = format!("nothing is called {name:?}{hint}");
            let (path, line, field) = (self.path.clone(), waiver.line as usize, format!("waive.{field}"));
            Err(ConfigError::Field { path, line, field, problem })
        };
        for waiver in &self.waivers {
            if let Some(name) = waiver.scenario.as_deref().filter(|name| !catalogue.has_file_of(name)) {
                let known = catalogue.all().iter().map(|scenario| scenario.id.as_str());
                return unknown(waiver, "scenario", name, hint(name, known));
            }
            if let Some(name) = waiver.invariant.as_deref().filter(|name| rules::find(name).is_none()) {
                return unknown(waiver, "invariant", name, hint(name, rules::RULES.iter().map(|it| it.name)));
            }
        }
        Ok(())
    }
}

/// The scenarios that are wanted, those of the folder `own` or of the file's among them, and what a reader should know of
/// those that are not. Fails where there are none, or where a waiver names something that is not there.
pub fn catalogue(own: Option<&Path>, config: &Config) -> Result<(Catalogue, Vec<String>), ConfigError> {
    let catalogue = Catalogue::load(own.or(config.scenarios.as_deref()))?;
    config.check(&catalogue)?;
    let Some(pin) = &config.catalogue else { return Ok((catalogue, Vec::new())) };
    let (catalogue, newer) = catalogue.pinned(pin);
    let note = format!("newer than catalogue {pin}, and not run: {}", newer.join(", "));
    Ok((catalogue, if newer.is_empty() { Vec::new() } else { vec![note] }))
}

impl Source<'_> {
    fn error(&self, at: std::ops::Range<usize>, field: &str, problem: String) -> ConfigError {
        let (path, line) = (self.path.to_owned(), line_of(self.text, Some(at)));
        ConfigError::Field { path, line, field: field.to_owned(), problem }
    }

    fn pin(&self, text: &Spanned<String>) -> Result<Pin, ConfigError> {
        let wrong = |problem| self.error(text.span(), "catalogue", problem);
        let pin: Pin = text
            .get_ref()
            .parse()
            .map_err(|error: crate::scenario::VersionError| wrong(error.to_string()))?;
        match Version::own() {
            Ok(own) if pin.is_beyond(&own) => Err(wrong(format!(
                "{pin} is to come: this is traintrue {own}; install a newer one, or pin less"
            ))),
            _ => Ok(pin),
        }
    }

    fn bytes(&self, text: &Spanned<String>) -> Result<Bytes, ConfigError> {
        text.get_ref().parse().map_err(|error: traintrue_memory::bytes::BytesError| {
            self.error(text.span(), "limits.trace", error.to_string())
        })
    }

    fn waiver(&self, waive: Spanned<Waive>) -> Result<Waiver, ConfigError> {
        let at = waive.span();
        let wrong = |field: &str, problem: &str| Err(self.error(at.clone(), field, problem.to_owned()));
        let Waive { scenario, invariant, reason, until } = waive.into_inner();
        if scenario.is_none() && invariant.is_none() {
            return wrong("waive", "it waives nothing; it needs a scenario, an invariant, or both");
        }
        if reason.trim().is_empty() {
            return wrong("waive.reason", "it is empty; say what is known about the failure");
        }
        let day = |date: toml::value::Date| {
            Date::new(date.year.try_into().ok()?, date.month as i8, date.day as i8).ok()
        };
        let Some(until) = until.date.filter(|_| until.time.is_none()).and_then(day) else {
            return wrong("waive.until", &format!("{until} is no day; expected one as 2027-03-31"));
        };
        Ok(Waiver { scenario, invariant, reason, until, line: line_of(self.text, Some(at)) as u64 })
    }
}

#[cfg(test)]
mod tests;
