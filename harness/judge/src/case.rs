//! Judges what runs left: every trace by the invariants over traces, and runs and pairs by those that the scenario asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use traintrue_protocol::contract::Contract;

use crate::evidence::{Evidence, RunRecord};
use crate::expectation::{Expectation, selects};
use crate::finding::Sheet;
use crate::invariants::protocol::answers;
use crate::pass::{Watched, watch};
use crate::rule::{Compares, Kind, Rule, RunEvidence};
use crate::rules::{RULES, find};
use crate::tally::{Labels, Tally};
use crate::verdict::Outcome;

/// What is judged.
pub struct Case<'a> {
    /// The scenario's id.
    pub scenario: &'a str,
    /// What must hold, beside what must hold over every trace.
    pub expectations: &'a [Expectation],
    /// What the runs left.
    pub evidence: &'a Evidence,
    /// The contract that the trainer declares; a run's own is noted where it is another.
    pub declared: &'a Contract,
    /// Whether it gives the same bits twice: declared, and not shown to be otherwise.
    pub deterministic: bool,
    /// Whether only some of the scenario's runs were made: what is asked of the others is then left out.
    pub partial: bool,
    /// How findings are labelled.
    pub labels: Labels<'a>,
}

/// The traces of one run, each read once.
struct Read<'a> {
    record: &'a RunRecord,
    watched: Vec<(PathBuf, Watched)>,
}

/// The runs of a scenario whose figures others are held to: those to repeat for a trainer that is not deterministic.
pub fn held_to(expectations: &[Expectation]) -> BTreeSet<&str> {
    let figures = expectations
        .iter()
        .filter(|asked| find(&asked.invariant).is_some_and(|rule| rule.compares.two_runs()));
    figures.filter_map(|asked| asked.against.as_deref()).collect()
}

/// Whether an outcome rests on the bits of two runs that only a deterministic trainer has in common.
pub fn rests_on_bits(outcome: &Outcome) -> bool {
    let bits = |name: &str| find(name).is_some_and(|rule| rule.compares.rests_on_bits());
    outcome.findings.iter().any(|finding| bits(&finding.invariant))
}

/// Judges one scenario; `seconds` is left to the caller, who knows when it began.
pub fn judge(case: &Case) -> Outcome {
    let mut tally = Tally::new(case.labels);
    for reason in &case.evidence.unjudged {
        tally.cannot_judge(reason.clone());
    }
    let read = read(&case.evidence.runs);
    for run in &read {
        answers(run, &mut tally);
        for (trace, watched) in &run.watched {
            for (rule, sheet) in &watched.sheets {
                tally.add(rule, &run.record.evidence.name, trace, sheet);
            }
        }
    }
    for (rule, result) in expectations(case, &read) {
        match result {
            Ok(asked) => asked.into_iter().for_each(|(run, sheet)| tally.asked(rule, &run.evidence, &sheet)),
            Err(reason) => tally.cannot_judge(reason),
        }
    }
    if let Some(others) = other_contracts(case.declared, &read) {
        tally.note(&format!("under another contract: {others}"));
    }
    let traces: usize = read.iter().map(|run| run.watched.len()).sum();
    tally.count("runs", read.len() as u64);
    tally
        .count("cuts", case.evidence.runs.iter().map(|run| run.endings.len().saturating_sub(1) as u64).sum());
    tally.count("processes", traces as u64);
    let repeats: usize = case.evidence.runs.iter().map(|run| run.evidence.repeats.len()).sum();
    if repeats > 0 {
        tally.count("repeats", repeats as u64);
    }
    tally.outcome(case.scenario)
}

/// How the contracts of traces differ from the declared one, and in how many traces: a plan may ask for another.
fn other_contracts(declared: &Contract, read: &[Read]) -> Option<String> {
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    for run in read.iter().flat_map(|run| &run.watched).filter_map(|(_, watched)| watched.run.as_ref()) {
        if run.contract != *declared {
            *others.entry(run.contract.unlike(declared)).or_default() += 1;
        }
    }
    let words = others.iter().map(|(contract, traces)| match traces {
        1 => format!("{contract} (1 trace)"),
        many => format!("{contract} ({many} traces)"),
    });
    (!others.is_empty()).then(|| words.collect::<Vec<_>>().join("; "))
}

/// Reads every trace once, side by side; runs that share their first segment share its reading.
fn read(runs: &[RunRecord]) -> Vec<Read<'_>> {
    let mut work: Vec<(usize, &Path, bool)> = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        for (trace, ending) in run.evidence.segments.iter().zip(&run.endings) {
            if !work.iter().any(|(_, path, _)| path == trace) {
                work.push((at, trace, ending.died));
            }
        }
    }
    let mut read: Vec<Read> = runs.iter().map(|record| Read { record, watched: Vec::new() }).collect();
    let watched: Vec<Watched> = work.par_iter().map(|&(_, trace, died)| watch(trace, died, RULES)).collect();
    for ((at, trace, _), watched) in work.into_iter().zip(watched) {
        read[at].watched.push((trace.to_owned(), watched));
    }
    read
}

/// `protocol/answers`: a process that did not do what it was meant to, or wrote something else than a trace.
fn answers(run: &Read, tally: &mut Tally) {
    for (trace, watched) in &run.watched {
        let segments = &run.record.evidence.segments;
        let ending = segments.iter().position(|it| it == trace).and_then(|at| run.record.endings.get(at));
        let mut sheet = Sheet::default();
        answers::judge(&mut sheet, ending, watched.error.as_ref());
        if let Some(broken) = &mut sheet.broken {
            // A process that failed is found where its trace stops.
            if watched.error.is_none() {
                broken.line = watched.last_line.max(1);
            }
            // The folder of a trace that does not stay says nothing.
            let folder = trace.parent().map(|folder| format!("{}/", folder.display()));
            broken.actual = broken.actual.replace(&folder.unwrap_or_default(), "");
        }
        if let (Some(ending), Some(said)) = (ending, &watched.run) {
            answers::same_plan(&mut sheet, &ending.plan, said);
        }
        tally.add(&answers::RULE, &run.record.evidence.name, trace, &sheet);
    }
}

type Asked<'a> = Result<Vec<(&'a RunRecord, Sheet)>, String>;

/// What the scenario asks of each run, side by side.
fn expectations<'a>(case: &Case, read: &[Read<'a>]) -> Vec<(&'static Rule, Asked<'a>)> {
    case.expectations
        .par_iter()
        .filter_map(|asked| expectation(case, find(&asked.invariant)?, asked, read))
        .collect()
}

fn expectation<'a>(
    case: &Case,
    rule: &'static Rule,
    asked: &Expectation,
    read: &[Read<'a>],
) -> Option<(&'static Rule, Asked<'a>)> {
    let asked_for = |run: &&Read| {
        let name = run.record.evidence.name.as_str();
        selects(&asked.runs, name) && asked.against.as_deref() != Some(name)
    };
    let runs: Vec<&Read> = read.iter().filter(asked_for).collect();
    let against =
        asked.against.as_deref().map(|name| read.iter().find(|run| run.record.evidence.name == name));
    if runs.is_empty() || matches!(against, Some(None)) {
        let reason = format!("{}: no run to judge", rule.name);
        // What could not be run at all has said so already.
        let silent = case.partial || !case.evidence.unjudged.is_empty();
        return (!silent).then_some((rule, Err(reason)));
    }
    if !case.deterministic && rule.compares == Compares::Digests {
        return Some((rule, Err(format!("{}: the trainer is not deterministic", rule.name))));
    }
    let judged = runs.par_iter().filter_map(|run| {
        let readable = |run: &Read| run.watched.iter().all(|(_, it)| it.error.is_none());
        let usable = |run: &Read| run.record.as_meant() && readable(run);
        let failed_start = rule.judges_a_start && run.record.complete && readable(run);
        let against = against.flatten();
        // Any other process that failed has broken `protocol/answers`: nothing more can be learnt from its traces.
        if !(usable(run) || failed_start) || against.is_some_and(|against| !usable(against)) {
            return None;
        }
        Some((run.record, sheet_of(rule, run, against.map(|against| &against.record.evidence))))
    });
    Some((rule, Ok(judged.collect())))
}

/// An invariant over one run, or over a run and the one it is held against; one over traces says only how much it compared.
fn sheet_of(rule: &Rule, run: &Read, against: Option<&RunEvidence>) -> Sheet {
    if let Kind::Run(_) | Kind::Pair(_) = rule.kind {
        return compare(rule, &run.record.evidence, against);
    }
    compared_in(rule, run.watched.iter().map(|(_, watched)| watched))
}

/// How much an invariant over single traces compared in those of one run.
pub fn compared_in<'a>(rule: &Rule, watched: impl Iterator<Item = &'a Watched>) -> Sheet {
    let mut sheet = Sheet::default();
    for (_, it) in watched.flat_map(|watched| &watched.sheets).filter(|(it, _)| it.name == rule.name) {
        sheet.compared += it.compared;
        sheet.missing = sheet.missing.or_else(|| it.missing.clone());
    }
    sheet
}

/// An invariant over one run, or over a run and the one it is held against.
pub fn compare(rule: &Rule, run: &RunEvidence, against: Option<&RunEvidence>) -> Sheet {
    let mut sheet = Sheet::default();
    let result = match (&rule.kind, against) {
        (Kind::Run(judge), _) => judge(run, &mut sheet),
        (Kind::Pair(judge), Some(against)) => judge(run, against, &mut sheet),
        (Kind::Pair(_) | Kind::Trace(_) | Kind::Process | Kind::Artefact, _) => {
            sheet.cannot("the scenario names no run to hold it against");
            Ok(())
        }
    };
    if let Err(error) = result {
        sheet.cannot(&error.to_string());
    }
    sheet
}

#[cfg(test)]
mod tests;
