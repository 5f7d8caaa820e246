//! Runs scenarios and judges them: the one place where a runner and a judge meet.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Instant;

use crate::contract::Description;
use crate::judge::{Case, Labels, command, judge};
use crate::plan::SCHEMA;
use crate::runner::{Happening, Runner, RunnerError, seconds_since};
use crate::scenario::{Corpus, ExpandError, Scenario, expand};
use crate::verdict::{Outcome, RunReport, Summary};

/// Everything that scenarios are run with.
pub struct Suite<'a> {
    /// The trainer's own words.
    pub description: &'a Description,
    /// The text.
    pub corpus: &'a Corpus,
    /// Runs the plans.
    pub runner: Runner<'a>,
    /// An absolute folder for checkpoints, and for traces that nobody wants to keep.
    pub scratch: &'a Path,
    /// The folder of the report: the traces stay in its `traces/`.
    pub report: Option<&'a Path>,
    /// Arguments of `traintrue run` that a finding's reproduction needs beside the scenario's id.
    pub arguments: &'a [String],
}

/// A suite that could not be run.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SuiteError {
    #[error(transparent)]
    Expand(#[from] ExpandError),
    #[error(transparent)]
    Runner(#[from] RunnerError),
    #[error("{path}: cannot remove: {source}", path = .path.display())]
    Scratch { path: PathBuf, source: std::io::Error },
}

/// One scenario, run and judged.
pub(crate) struct Examined {
    /// The verdict.
    pub outcome: Outcome,
    /// Whether a process was killed because it took too long.
    pub timed_out: bool,
    /// What `look` took from each trace before the traces were removed, by the trace's file name.
    pub seen: BTreeMap<String, String>,
}

/// Looks at one trace before it is removed.
pub(crate) type Look = fn(&Path) -> String;

impl Suite<'_> {
    /// Runs and judges each scenario; the outcomes are in the same order.
    pub fn run(&self, scenarios: &[Scenario]) -> Result<RunReport, SuiteError> {
        let outcomes = self.runner.slots.each(scenarios, |scenario| {
            let examined = self.examine(scenario, &scenario.id, &[], None)?;
            self.runner.observer.see(Happening::Judged(&examined.outcome));
            Ok(examined.outcome)
        });
        let outcomes = outcomes.into_iter().collect::<Result<Vec<_>, SuiteError>>()?;
        let summary = Summary::of(&outcomes);
        let Description { trainer, contract, .. } = self.description.clone();
        Ok(RunReport { schema: SCHEMA, trainer, contract, outcomes, summary })
    }

    /// Runs and judges one scenario, or only the runs that `wanted` keeps, in a scratch folder called `name`.
    pub(crate) fn examine(
        &self,
        scenario: &Scenario,
        name: &str,
        wanted: &[String],
        look: Option<Look>,
    ) -> Result<Examined, SuiteError> {
        let begun = Instant::now();
        let has = |need: &&String| self.description.capabilities.contains(need);
        if let Some(lacking) = scenario.needs.iter().find(|need| !has(need)) {
            let outcome = Outcome::not_judged(&scenario.id, format!("no {lacking}"));
            return Ok(Examined { outcome, timed_out: false, seen: BTreeMap::new() });
        }
        let scratch = self.scratch.join(name);
        let traces = match self.report {
            Some(report) => report.join("traces").join(name),
            None => scratch.join("traces"),
        };
        let mut expansion = expand(scenario, self.corpus, &scratch.join("checkpoints"))?;
        expansion.runs.retain(|run| wanted.is_empty() || wanted.contains(&run.name));
        let evidence = self.runner.run(&scenario.id, &expansion.runs, &traces)?;
        let verb = ["run".to_owned(), scenario.id.clone()];
        let reproduce = command(verb.iter().chain(self.arguments));
        let label: &(dyn Fn(&Path) -> String + Sync) = if self.report.is_some() { &whole } else { &shown };
        let case = Case {
            scenario,
            evidence: &evidence,
            declared: &self.description.contract,
            partial: !wanted.is_empty(),
            labels: Labels { reproduce: &reproduce, trace: label },
        };
        let mut outcome = judge(&case, self.runner.slots);
        outcome.notes.splice(0..0, expansion.notes);
        let timed_out = evidence.runs.iter().flat_map(|run| &run.endings).any(|it| it.timed_out());
        let paths = evidence.runs.iter().flat_map(|run| &run.evidence.segments);
        let seen = look.map(|look| paths.map(|path| (shown(path), look(path))).collect()).unwrap_or_default();
        remove(&scratch)?;
        outcome.seconds = seconds_since(begun);
        Ok(Examined { outcome, timed_out, seen })
    }
}

/// The path of a trace that stays.
fn whole(trace: &Path) -> String {
    trace.display().to_string()
}

/// The name of a trace that does not stay.
fn shown(trace: &Path) -> String {
    trace.file_name().unwrap_or_default().to_string_lossy().into_owned()
}

fn remove(folder: &Path) -> Result<(), SuiteError> {
    match fs::remove_dir_all(folder) {
        Err(source) if source.kind() != std::io::ErrorKind::NotFound => {
            Err(SuiteError::Scratch { path: folder.to_owned(), source })
        }
        _ => Ok(()),
    }
}
