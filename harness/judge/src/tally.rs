//! Adds up sheets into one outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use crate::finding::{Finding, Sheet};
use crate::rule::{Kind, Rank, Rule, RunEvidence};
use crate::verdict::{Outcome, Pair, Verdict};

/// How findings are labelled.
#[derive(Clone, Copy)]
pub struct Labels<'a> {
    /// The command that shows it again.
    pub reproduce: &'a str,
    /// The name of a trace file in a finding.
    pub trace: &'a (dyn Fn(&Path) -> String + Sync),
}

/// The sum of the sheets of one outcome.
pub struct Tally<'a> {
    labels: Labels<'a>,
    compared: BTreeMap<String, u64>,
    counted: BTreeMap<String, u64>,
    /// Notes that come before the others, in order.
    lead: Vec<String>,
    notes: BTreeSet<String>,
    observed: Vec<String>,
    unjudged: Vec<String>,
    /// Each with its invariant's rank, by which the outcome sorts them.
    findings: Vec<(Rank, Finding)>,
    pairs: Vec<Pair>,
}

impl<'a> Tally<'a> {
    /// An empty tally.
    pub fn new(labels: Labels<'a>) -> Self {
        let (compared, counted, notes) = Default::default();
        let (lead, observed, unjudged, findings, pairs) = Default::default();
        Self { labels, compared, counted, lead, notes, observed, unjudged, findings, pairs }
    }

    /// Adds the sheet of one trace of one run. Only the first finding per invariant and run is kept.
    pub fn add(&mut self, rule: &Rule, run: &str, trace: &Path, sheet: &Sheet) {
        if sheet.compared > 0 {
            *self.compared.entry(rule.name.to_owned()).or_default() += sheet.compared;
        }
        for (name, more) in &sheet.counted {
            self.count(name, *more);
        }
        let Some(broken) = &sheet.broken else { return };
        if self.findings.iter().any(|(_, other)| other.invariant == rule.name && other.run == run) {
            return;
        }
        let finding = Finding {
            invariant: rule.name.to_owned(),
            component: broken.component,
            run: run.to_owned(),
            line: broken.line,
            at: broken.at.clone(),
            expected: broken.expected.clone(),
            actual: broken.actual.clone(),
            cause: broken.cause.clone(),
            reproduce: self.labels.reproduce.to_owned(),
            trace: (self.labels.trace)(trace),
            waived: None,
        };
        self.findings.push((rule.rank, finding));
    }

    /// Adds the sheet of an invariant that the scenario asks for. An invariant that compared nothing has not passed.
    pub fn asked(&mut self, rule: &Rule, run: &RunEvidence, against: Option<&RunEvidence>, sheet: &Sheet) {
        let missing = sheet.missing.as_deref();
        if sheet.broken.is_none() && (sheet.compared == 0 || sheet.is_blind) {
            let reason = missing.unwrap_or("there was nothing to compare");
            self.cannot_judge(format!("{} on {}: {reason}", rule.name, run.name));
        } else if let Some(missing) = missing {
            self.notes.insert(format!("{}: {missing}", rule.name));
        }
        for remark in &sheet.remarks {
            self.notes.insert(remark.clone());
        }
        // An invariant over traces was added with each of its traces.
        if !matches!(rule.kind, Kind::Trace(_) | Kind::Process) {
            let segment = sheet.broken.as_ref().map_or(0, |broken| broken.segment);
            let nowhere = Path::new("");
            self.add(rule, &run.name, run.segments.get(segment).map_or(nowhere, |path| path), sheet);
        }
        let against = against.filter(|_| matches!(rule.kind, Kind::Pair(_)));
        self.pairs.extend(against.map(|against| Pair {
            invariant: rule.name.to_owned(),
            run: run.clone(),
            against: against.clone(),
            compared: sheet.compared,
            resumed_from: sheet.resumed_from,
            broken: sheet.broken.clone(),
        }));
    }

    /// Adds to a count that is shown beside the verdict.
    pub fn count(&mut self, name: &str, more: u64) {
        *self.counted.entry(name.to_owned()).or_default() += more;
    }

    /// Adds a note for the reader.
    pub fn note(&mut self, note: &str) {
        self.notes.insert(note.to_owned());
    }

    /// Adds a note that comes before the sorted ones.
    pub fn lead(&mut self, note: String) {
        if !self.lead.contains(&note) {
            self.lead.push(note);
        }
    }

    /// Adds what a recorded loop is held to, and who said it.
    pub fn observe(&mut self, what: String) {
        self.observed.push(what);
    }

    /// Adds a reason why something could not be judged.
    pub fn cannot_judge(&mut self, reason: String) {
        if !self.unjudged.contains(&reason) {
            self.unjudged.push(reason);
        }
    }

    /// The outcome of everything added.
    pub fn outcome(mut self, scenario: &str) -> Outcome {
        if self.compared.is_empty() && self.findings.is_empty() && self.unjudged.is_empty() {
            self.unjudged.push("nothing was compared".to_owned());
        }
        // Roots before consequences. The sort is stable, so findings of one rank stay in the order in which they were
        // added.
        self.findings.sort_by_key(|(rank, _)| *rank);
        let reason = match self.unjudged.as_slice() {
            [] => None,
            [reason] => Some(reason.clone()),
            [reason, _] => Some(format!("{reason}, and 1 more reason")),
            [reason, more @ ..] => Some(format!("{reason}, and {} more reasons", more.len())),
        };
        let verdict = match (self.findings.as_slice(), &reason) {
            ([_, ..], _) => Verdict::Broken,
            ([], Some(_)) => Verdict::NotJudged,
            ([], None) => Verdict::Held,
        };
        Outcome {
            scenario: scenario.to_owned(),
            verdict,
            reason,
            compared: self.compared,
            counted: self.counted,
            observed: self.observed,
            notes: self.lead.into_iter().chain(self.notes).collect(),
            findings: self.findings.into_iter().map(|(_, finding)| finding).collect(),
            seconds: 0.0,
            traces: Vec::new(),
            pairs: self.pairs,
        }
    }
}
