//! From the text of a scenario file to a scenario, checked.

use std::collections::BTreeSet;
use std::ops::Range;
use std::path::{Path, PathBuf};

use serde::Deserialize;
use toml::Spanned;
use traintrue_judge::expectation::selects;
use traintrue_protocol::nearest::hint;
use traintrue_protocol::plan::SCHEMA;

use super::file::{RunSpec, Scenario};
use super::places;

/// A scenario file that cannot be used.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ScenarioError {
    #[error("{path}:{line}: {message}", path = .path.display())]
    Toml { path: PathBuf, line: usize, message: String },
    #[error("{path}:{line}: schema {found}, this command reads schema {SCHEMA}", path = .path.display())]
    Schema { path: PathBuf, line: usize, found: u32 },
    #[error("{path}:{line}: {field}: {problem}", path = .path.display())]
    Field { path: PathBuf, line: usize, field: String, problem: String },
}

impl Scenario {
    /// Parses and checks the text of one file; `path` is for messages.
    pub fn parse(path: &Path, text: &str) -> Result<Self, ScenarioError> {
        let scenario: Self = read(path, text)?;
        if scenario.schema != SCHEMA {
            let line = places::line(text, "schema", None);
            return Err(ScenarioError::Schema { path: path.to_owned(), line, found: scenario.schema });
        }
        let wrong = |field: String, name: &str, problem| {
            let key = field.split('.').next().unwrap_or_default();
            let line = places::line(text, key, Some(name));
            ScenarioError::Field { path: path.to_owned(), line, field, problem }
        };
        scenario.check_names().map_err(|it| wrong(it.field.to_owned(), &it.name, it.problem))?;
        for run in &scenario.runs {
            scenario
                .plan_spec(run)
                .map_err(|problem| wrong(format!("runs.{}", run.name), &run.name, problem))?;
        }
        scenario.check_selections(path, text)?;
        Ok(scenario)
    }

    fn check_names(&self) -> Result<(), WrongName> {
        if self.runs.is_empty() {
            let problem = "there is none; a scenario makes at least one run".to_owned();
            return Err(WrongName { field: "runs", name: String::new(), problem });
        }
        let faults = self.faults.iter().map(|fault| ("faults.id", fault.id.clone()));
        let runs = || self.runs.iter().flat_map(RunSpec::names);
        let names = [("id", self.id.clone())].into_iter().chain(faults);
        for (of, name) in names.chain(runs().map(|name| ("runs.name", name))) {
            if !is_file_name(&name) {
                let problem = format!("{name:?}, expected letters, digits, - and _");
                return Err(WrongName { field: of, name, problem });
            }
        }
        let mut seen = BTreeSet::new();
        match runs().find(|name| !seen.insert(name.clone())) {
            Some(twice) => {
                let problem = format!("{twice:?} is there twice");
                Err(WrongName { field: "runs.name", name: twice, problem })
            }
            None => Ok(()),
        }
    }

    /// A selection without a run would compare nothing, and a fault would be planted in no run.
    fn check_selections(&self, path: &Path, text: &str) -> Result<(), ScenarioError> {
        let runs: Vec<String> = self.runs.iter().flat_map(RunSpec::names).collect();
        for (field, asked, matches) in read::<Selections>(path, text)?.each() {
            if !runs.iter().any(|name| matches(asked.get_ref(), name)) {
                let near = hint(asked.get_ref(), runs.iter().map(String::as_str));
                return Err(ScenarioError::Toml {
                    path: path.to_owned(),
                    line: line_of(text, Some(asked.span())),
                    message: format!("{field}: no run is called {:?}{near}", asked.get_ref()),
                });
            }
        }
        Ok(())
    }
}

/// A name that cannot be used.
struct WrongName {
    field: &'static str,
    name: String,
    problem: String,
}

/// The fields that select runs by name, read a second time for their places in the text.
#[derive(Deserialize)]
struct Selections {
    #[serde(default)]
    holds: Vec<OfHold>,
    #[serde(default)]
    faults: Vec<OfFault>,
}

#[derive(Deserialize)]
struct OfHold {
    runs: Option<Spanned<String>>,
    against: Option<Spanned<String>>,
}

#[derive(Deserialize)]
struct OfFault {
    #[serde(default)]
    runs: Vec<Spanned<String>>,
}

/// A field, what it asks for, and how that selects a run.
type Selection<'a> = (&'static str, &'a Spanned<String>, fn(&str, &str) -> bool);

impl Selections {
    fn each(&self) -> impl Iterator<Item = Selection<'_>> {
        let holds = self.holds.iter().flat_map(|it| {
            let runs = it.runs.iter().map(|asked| ("holds.runs", asked, selects as fn(&str, &str) -> bool));
            // Runs are held against one run: a pattern would be taken for a name.
            let is: fn(&str, &str) -> bool = |asked, name| asked == name;
            runs.chain(it.against.iter().map(move |asked| ("holds.against", asked, is)))
        });
        let faults = self.faults.iter().flat_map(|it| &it.runs);
        holds.chain(faults.map(|asked| ("faults.runs", asked, selects as fn(&str, &str) -> bool)))
    }
}

fn read<T: for<'de> Deserialize<'de>>(path: &Path, text: &str) -> Result<T, ScenarioError> {
    toml::from_str(text).map_err(|error| ScenarioError::Toml {
        path: path.to_owned(),
        line: line_of(text, error.span()),
        message: error.message().to_owned(),
    })
}

/// Traces and checkpoints are files of this name.
fn is_file_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || c == '-' || c == '_';
    !name.is_empty() && name.chars().all(fits)
}

/// The line of a place in a text, from 1.
pub(crate) fn line_of(text: &str, span: Option<Range<usize>>) -> usize {
    let end = span.map_or(0, |span| span.start.min(text.len()));
    text.as_bytes()[..end].iter().filter(|&&byte| byte == b'\n').count() + 1
}
