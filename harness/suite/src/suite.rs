//! Runs scenarios and judges them: the one place where a runner and a judge meet.

use std::collections::BTreeMap;
use std::fs;
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use traintrue_judge::case::{Case, compare, held_to, judge, rests_on_bits};
use traintrue_judge::evidence::Evidence;
use traintrue_judge::invariants::training::repeat;
use traintrue_judge::rule::RunEvidence;
use traintrue_judge::tally::Labels;
use traintrue_judge::verdict::{Outcome, RunReport};
use traintrue_protocol::contract::Description;
use traintrue_protocol::vocabulary::Capability;

use crate::interrupt;
use crate::program::ProgramError;
use crate::reproduce::command;
use crate::runner::{Happening, Runner, RunnerError};
use crate::scenario::{ConcreteRun, Corpus, ExpandError, Scenario, expand};

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

/// Why a scenario is run.
#[derive(Clone, Copy)]
pub(crate) enum Purpose {
    /// For a verdict on a trainer: one that breaks by bits is repeated, to see whether it gives the same bits at all.
    Verdict,
    /// To try a planted fault in a trainer that is known to be deterministic.
    Trial(Look),
}

/// Why a scenario was not judged, where somebody wanted the end.
const INTERRUPTED: &str = "interrupted";

/// How often a run is repeated to measure its spread, beside the first time.
const REPEATS: u64 = 2;

impl Suite<'_> {
    /// Runs and judges each scenario; the outcomes are in the same order. A scenario that gives no plan stops itself alone.
    pub fn run(&self, scenarios: &[Scenario]) -> Result<RunReport, SuiteError> {
        let examined = scenarios.par_iter().map(|scenario| {
            if interrupt::signal().is_some() {
                return Ok(Ok(interrupted(scenario)));
            }
            match self.examine(scenario, &scenario.id, &[], Purpose::Verdict) {
                Ok(examined) => {
                    self.runner.observer.see(Happening::Judged(&examined.outcome));
                    Ok(Ok(examined.outcome))
                }
                Err(SuiteError::Expand(error)) => Ok(Err(error.to_string())),
                Err(SuiteError::Runner(RunnerError::Program(ProgramError::Interrupted { .. }))) => {
                    Ok(Ok(interrupted(scenario)))
                }
                Err(error) => Err(error),
            }
        });
        let (mut outcomes, mut errors) = (Vec::new(), Vec::new());
        for one in examined.collect::<Result<Vec<_>, SuiteError>>()? {
            match one {
                Ok(outcome) => outcomes.push(outcome),
                Err(error) => errors.push(error),
            }
        }
        errors.extend(interrupt::signal().map(|signal| {
            let judged = outcomes.iter().filter(|outcome| !is_interrupted(outcome)).count();
            format!("interrupted by signal {signal}: {judged} of {} scenarios were judged", scenarios.len())
        }));
        let Description { trainer, contract, .. } = self.description.clone();
        Ok(RunReport { errors, ..RunReport::new(trainer, contract, outcomes) })
    }

    /// Runs and judges one scenario, or only the runs that `wanted` keeps, in a scratch folder called `name`.
    pub(crate) fn examine(
        &self,
        scenario: &Scenario,
        name: &str,
        wanted: &[String],
        purpose: Purpose,
    ) -> Result<Examined, SuiteError> {
        let has = |need: &&Capability| self.description.capabilities.contains(need);
        if let Some(lacking) = scenario.needs.iter().find(|need| !has(need)) {
            return Ok(unable(scenario, *lacking));
        }
        let scratch = self.scratch.join(name);
        let traces = match self.report {
            Some(report) => report.join("traces").join(name),
            None => scratch.join("traces"),
        };
        let mut expansion = expand(scenario, self.corpus, &scratch.join("checkpoints"))?;
        let lacking = expansion.offer(&self.description.capabilities);
        if let (Some((_, capability)), []) = (lacking.first(), expansion.runs.as_slice()) {
            return Ok(unable(scenario, *capability));
        }
        expansion.runs.retain(|run| wanted.is_empty() || wanted.contains(&run.name));
        let mut evidence = self.runner.run(&scenario.id, &expansion.runs, &traces)?;
        let left_out = lacking.into_iter().map(|(run, capability)| format!("{run}: no {capability}"));
        evidence.unjudged.extend(left_out);
        let repeat = |evidence: &mut Evidence| self.repeat(scenario, &expansion.runs, &traces, evidence);
        let declared = &self.description.contract;
        if !declared.deterministic {
            repeat(&mut evidence)?;
        }
        let verb = ["run".to_owned(), scenario.id.clone()];
        let reproduce = command(verb.iter().chain(self.arguments));
        let label: &(dyn Fn(&Path) -> String + Sync) = if self.report.is_some() { &whole } else { &shown };
        let judged = |evidence: &Evidence, deterministic: bool| {
            let labels = Labels { reproduce: &reproduce, trace: label };
            let case = Case {
                scenario: &scenario.id,
                expectations: &scenario.expectations,
                evidence,
                declared,
                deterministic,
                partial: !wanted.is_empty(),
                labels,
            };
            judge(&case)
        };
        let mut outcome = judged(&evidence, declared.deterministic);
        let doubted = matches!(purpose, Purpose::Verdict) && declared.deterministic;
        if doubted && rests_on_bits(&outcome) {
            repeat(&mut evidence)?;
            if let Some(shown) = shown_not_deterministic(&evidence) {
                outcome = judged(&evidence, false);
                outcome.notes.push(shown);
            }
        }
        outcome.notes.splice(0..0, expansion.notes);
        let timed_out = evidence.runs.iter().flat_map(|run| &run.endings).any(|it| it.timed_out());
        let paths = evidence.runs.iter().flat_map(|run| &run.evidence.segments);
        if self.report.is_some() {
            outcome.traces = paths.clone().cloned().collect();
        } else {
            outcome.pairs.clear();
        }
        let seen = match purpose {
            Purpose::Verdict => BTreeMap::new(),
            Purpose::Trial(look) => paths.map(|path| (shown(path), look(path))).collect(),
        };
        remove(&scratch)?;
        outcome.seconds = evidence.seconds();
        Ok(Examined { outcome, timed_out, seen })
    }

    /// Repeats the runs that others are held to, for the spread of their figures.
    fn repeat(
        &self,
        scenario: &Scenario,
        runs: &[ConcreteRun],
        traces: &Path,
        evidence: &mut Evidence,
    ) -> Result<(), SuiteError> {
        let held_to = held_to(&scenario.expectations);
        for run in runs.iter().filter(|run| held_to.contains(run.name.as_str())) {
            if let Some(record) = evidence.runs.iter_mut().find(|record| record.evidence.name == run.name) {
                record.evidence.repeats = self.runner.repeat(run, REPEATS, traces)?;
            }
        }
        Ok(())
    }
}

/// A scenario that was not judged, because somebody wanted the end.
fn interrupted(scenario: &Scenario) -> Outcome {
    Outcome::not_judged(&scenario.id, INTERRUPTED.to_owned())
}

fn is_interrupted(outcome: &Outcome) -> bool {
    outcome.reason.as_deref() == Some(INTERRUPTED)
}

/// A scenario for which the trainer lacks a capability.
fn unable(scenario: &Scenario, lacking: Capability) -> Examined {
    let outcome = Outcome::not_judged(&scenario.id, format!("no {lacking}"));
    Examined { outcome, timed_out: false, seen: BTreeMap::new() }
}

/// What shows that a trainer, whatever it declares, does not give the same bits twice.
fn shown_not_deterministic(evidence: &Evidence) -> Option<String> {
    evidence.runs.iter().map(|run| &run.evidence).find_map(|run| {
        let once = RunEvidence { repeats: Vec::new(), ..run.clone() };
        let broken = run.repeats.iter().find_map(|segments| {
            let again = RunEvidence { segments: segments.clone(), ..once.clone() };
            compare(&repeat::RULE, &again, Some(&once)).broken
        })?;
        let (name, event) = (&run.name, &broken.at.event);
        Some(format!(
            "the trainer declares that it is deterministic, and {name} made again is another from line {} on, {event}: \
             figures are held to the spread of its repeats",
            broken.line
        ))
    })
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
