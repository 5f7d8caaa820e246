//! Judges a scenario's runs: every trace by the invariants over traces, and runs and pairs by those that the scenario
//! asks for.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

use rayon::prelude::*;
use traintrue_protocol::contract::Contract;

use crate::evidence::{Evidence, RunRecord};
use crate::expectation::{Expectation, selects};
use crate::finding::Sheet;
use crate::invariants::protocol::answers;
use crate::pass::{JudgedTrace, judge_trace};
use crate::rule::{Compares, Kind, Rule, RunEvidence, counterpart_name, run_name};
use crate::rules::{RULES, find};
use crate::tally::{Labels, Tally};
use crate::verdict::Outcome;

/// One scenario to judge.
pub struct Case<'a> {
    /// The scenario's id.
    pub scenario: &'a str,
    /// What must hold, in addition to the invariants over every trace.
    pub expectations: &'a [Expectation],
    /// The traces and endings of the runs.
    pub evidence: &'a Evidence,
    /// The contract that the trainer declares. A run may have another one, which the outcome notes.
    pub declared: &'a Contract,
    /// Whether the trainer gives the same bits twice: it declares so, and no run has shown the opposite.
    pub deterministic: bool,
    /// Whether only some of the scenario's runs were made. Expectations about the others are then left out.
    pub partial: bool,
    /// How findings are labelled.
    pub labels: Labels<'a>,
}

/// The traces of one run, each read once.
struct Read<'a> {
    record: &'a RunRecord,
    traces: Vec<(PathBuf, JudgedTrace)>,
}

impl Read<'_> {
    /// Whether each of its traces can be read.
    fn is_readable(&self) -> bool {
        self.traces.iter().all(|(_, it)| it.error.is_none())
    }

    /// Whether it did what the scenario says, and can be read.
    fn is_usable(&self) -> bool {
        self.record.as_meant() && self.is_readable()
    }
}

/// The runs that other runs are compared with. For a trainer that is not deterministic, these are repeated.
pub fn held_to(expectations: &[Expectation]) -> BTreeSet<&str> {
    let figures = expectations
        .iter()
        .filter(|asked| find(&asked.invariant).is_some_and(|rule| rule.compares.two_runs()));
    figures.filter_map(|asked| asked.against.as_deref()).collect()
}

/// Whether a finding of the outcome compares bits that only a deterministic trainer gives twice.
pub fn rests_on_bits(outcome: &Outcome) -> bool {
    let bits = |name: &str| find(name).is_some_and(|rule| rule.compares.rests_on_bits());
    outcome.findings.iter().any(|finding| bits(&finding.invariant))
}

/// Judges one scenario. The caller sets `seconds`.
pub fn judge(case: &Case) -> Outcome {
    let mut tally = Tally::new(case.labels);
    for reason in &case.evidence.unjudged {
        tally.cannot_judge(reason.clone());
    }
    case.evidence.reasons_to_decline().into_iter().for_each(|reason| tally.cannot_judge(reason));
    let read = read(&case.evidence.runs);
    for run in &read {
        answers(run, &mut tally);
        for (trace, judged) in &run.traces {
            for (rule, sheet) in &judged.sheets {
                tally.add(rule, &run.record.evidence.name, trace, sheet);
            }
        }
    }
    for (rule, result) in expectations(case, &read) {
        match result {
            Ok(asked) => asked.into_iter().for_each(|(run, against, sheet)| {
                tally.asked(rule, &run.evidence, against, &sheet);
            }),
            Err(reason) => tally.cannot_judge(reason),
        }
    }
    if let Some(others) = other_contracts(case.declared, &read) {
        tally.note(&format!("under another contract: {others}"));
    }
    let traces: usize = read.iter().map(|run| run.traces.len()).sum();
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

/// How the contracts of traces differ from the declared one, and in how many traces. A plan may ask for another
/// contract.
fn other_contracts(declared: &Contract, read: &[Read]) -> Option<String> {
    let mut others: BTreeMap<String, usize> = BTreeMap::new();
    for run in read.iter().flat_map(|run| &run.traces).filter_map(|(_, judged)| judged.run.as_ref()) {
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

/// Reads every trace once, in parallel. Runs that share their first segment share its reading.
fn read(runs: &[RunRecord]) -> Vec<Read<'_>> {
    let mut work: Vec<(usize, &Path, bool)> = Vec::new();
    for (at, run) in runs.iter().enumerate() {
        for (trace, ending) in run.evidence.segments.iter().zip(&run.endings) {
            if !work.iter().any(|(_, path, _)| path == trace) {
                work.push((at, trace, ending.died));
            }
        }
    }
    let mut read: Vec<Read> = runs.iter().map(|record| Read { record, traces: Vec::new() }).collect();
    let judged: Vec<JudgedTrace> =
        work.par_iter().map(|&(_, trace, died)| judge_trace(trace, died, RULES)).collect();
    for ((at, trace, _), judged) in work.into_iter().zip(judged) {
        read[at].traces.push((trace.to_owned(), judged));
    }
    read
}

/// `protocol/answers`: a process that did not end as the scenario says, or did not write a trace.
fn answers(run: &Read, tally: &mut Tally) {
    for (trace, judged) in &run.traces {
        let segments = &run.record.evidence.segments;
        let ending = segments.iter().position(|it| it == trace).and_then(|at| run.record.endings.get(at));
        let mut sheet = Sheet::default();
        answers::judge(&mut sheet, ending, judged.error.as_ref());
        if let Some(broken) = &mut sheet.broken {
            // The finding of a failed process points to the end of its trace.
            if judged.error.is_none() {
                broken.line = judged.last_line.max(1);
            }
            // The trace's folder is temporary, so its name would not help the reader.
            let folder = trace.parent().map(|folder| format!("{}/", folder.display()));
            broken.actual = broken.actual.replace(&folder.unwrap_or_default(), "");
        }
        if let (Some(ending), Some(said)) = (ending, &judged.run) {
            answers::same_plan(&mut sheet, &ending.plan, said);
        }
        tally.add(&answers::RULE, &run.record.evidence.name, trace, &sheet);
    }
}

/// Each run, the run that it was compared with, and what came of it.
type Asked<'a> = Result<Vec<(&'a RunRecord, Option<&'a RunEvidence>, Sheet)>, String>;

/// Judges the scenario's expectations, in parallel.
fn expectations<'a>(case: &Case, read: &[Read<'a>]) -> Vec<(&'static Rule, Asked<'a>)> {
    case.expectations
        .par_iter()
        .filter_map(|asked| expectation(case, find(&asked.invariant)?, asked, read))
        .collect()
}

/// The run `name`; of a run of several ranks, the one of the same rank as `of`.
fn counterpart<'r, 'a>(read: &'r [Read<'a>], name: &str, of: &Read) -> Option<&'r Read<'a>> {
    let called = |wanted: &str| read.iter().find(|run| run.record.evidence.name == wanted);
    called(name).or_else(|| called(&counterpart_name(name, &of.record.evidence.name)))
}

/// Judges the ranks of each run that is asked for, all of one run together.
fn of_ranks<'a>(
    rule: &'static Rule,
    runs: &[&Read<'a>],
    against: Option<&str>,
    read: &[Read<'a>],
) -> Vec<(&'a RunRecord, Option<&'a RunEvidence>, Sheet)> {
    let mut groups: Vec<Vec<&Read<'a>>> = Vec::new();
    for run in runs {
        let is_of = |group: &&mut Vec<&Read>| {
            run_name(&group[0].record.evidence.name) == run_name(&run.record.evidence.name)
        };
        match groups.iter_mut().find(is_of) {
            Some(group) => group.push(run),
            None => groups.push(vec![run]),
        }
    }
    groups.retain(|group| group.len() > 1 && group.iter().all(|run| run.is_usable()));
    let judged = groups.into_par_iter().filter_map(|group| {
        let against = match against {
            Some(name) => Some(counterpart(read, name, group[0]).filter(|it| it.is_usable())?),
            None => None,
        };
        let against = against.map(|it| &it.record.evidence);
        let ranks: Vec<&RunEvidence> = group.iter().map(|run| &run.record.evidence).collect();
        let sheet = compare_ranks(rule, &ranks, against);
        let rank = sheet.broken.as_ref().map_or(0, |broken| broken.rank);
        Some((group[rank].record, against, sheet))
    });
    judged.collect()
}

/// Judges the ranks of one run together.
pub fn compare_ranks(rule: &Rule, ranks: &[&RunEvidence], against: Option<&RunEvidence>) -> Sheet {
    let mut sheet = Sheet::default();
    let Kind::Ranks(judge) = rule.kind else { return sheet };
    if let Err(error) = judge(ranks, against, &mut sheet) {
        sheet.cannot(&error.to_string());
    }
    sheet
}

fn expectation<'a>(
    case: &Case,
    rule: &'static Rule,
    asked: &Expectation,
    read: &[Read<'a>],
) -> Option<(&'static Rule, Asked<'a>)> {
    let asked_for = |run: &&Read| {
        let name = run.record.evidence.name.as_str();
        selects(&asked.runs, name) && asked.against.as_deref() != Some(run_name(name))
    };
    let runs: Vec<&Read> = read.iter().filter(asked_for).collect();
    let other = |run: &Read<'a>| asked.against.as_deref().map(|name| counterpart(read, name, run));
    if runs.is_empty() || runs.iter().any(|run| matches!(other(run), Some(None))) {
        let reason = format!("{}: no run to judge", rule.name);
        // A scenario that could not be run has given its reason already.
        let Evidence { unjudged, declined, .. } = case.evidence;
        let silent = case.partial || !unjudged.is_empty() || !declined.is_empty();
        return (!silent).then_some((rule, Err(reason)));
    }
    if !case.deterministic && rule.compares == Compares::Digests {
        return Some((rule, Err(format!("{}: the trainer is not deterministic", rule.name))));
    }
    if let Kind::Ranks(_) = rule.kind {
        return Some((rule, Ok(of_ranks(rule, &runs, asked.against.as_deref(), read))));
    }
    let judged = runs.par_iter().filter_map(|run| {
        let failed_start = rule.judges_a_start && run.record.complete && run.is_readable();
        let against = other(run).flatten();
        // Any other failed process has broken `protocol/answers`. Its traces stop somewhere, so comparing them would
        // only add consequences.
        if !(run.is_usable() || failed_start) || against.is_some_and(|against| !against.is_usable()) {
            return None;
        }
        let against = against.map(|against| &against.record.evidence);
        let name = run.record.evidence.name.as_str();
        let mut sheet = Sheet::default();
        if !case.deterministic && rule.compares.two_runs() && run_name(name) != name {
            // One rank cannot be made again without the others.
            sheet.cannot("runs of several ranks are not repeated, and the trainer is not deterministic");
        } else {
            sheet = sheet_of(rule, run, against);
        }
        Some((run.record, against, sheet))
    });
    Some((rule, Ok(judged.collect())))
}

/// The sheet of an invariant over one run or a pair. An invariant over traces has judged its traces already and only
/// adds up how much it compared.
fn sheet_of(rule: &Rule, run: &Read, against: Option<&RunEvidence>) -> Sheet {
    if let Kind::Run(_) | Kind::Pair(_) = rule.kind {
        return compare(rule, &run.record.evidence, against);
    }
    compared_in(rule, run.traces.iter().map(|(_, judged)| judged))
}

/// How much an invariant over single traces compared in the traces of one run.
pub fn compared_in<'a>(rule: &Rule, judged: impl Iterator<Item = &'a JudgedTrace>) -> Sheet {
    let mut sheet = Sheet::default();
    for (_, it) in judged.flat_map(|judged| &judged.sheets).filter(|(it, _)| it.name == rule.name) {
        sheet.compared += it.compared;
        sheet.missing = sheet.missing.or_else(|| it.missing.clone());
        sheet.is_blind |= it.is_blind;
        sheet.remarks.extend(it.remarks.iter().cloned());
    }
    sheet
}

/// Judges one run, or one run compared with another.
pub fn compare(rule: &Rule, run: &RunEvidence, against: Option<&RunEvidence>) -> Sheet {
    let mut sheet = Sheet::default();
    let result = match (&rule.kind, against) {
        (Kind::Run(judge), _) => judge(run, &mut sheet),
        (Kind::Pair(judge), Some(against)) => judge(run, against, &mut sheet),
        (Kind::Pair(_) | Kind::Ranks(_) | Kind::Trace(_) | Kind::Process | Kind::Artefact, _) => {
            sheet.cannot("the scenario names no run to compare with (`against`)");
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
