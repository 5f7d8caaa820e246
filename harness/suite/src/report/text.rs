//! What a person reads, in colour: one line a scenario or fault, and a block a finding.

use std::fmt::Write;

use anstyle::Style;
use traintrue_judge::finding::{At, Finding};
use traintrue_judge::rules::find;
use traintrue_judge::verdict::{Outcome, RunReport, Verdict};

use super::folded::roots;
use super::paint::{BAD, FAINT, GOOD, STRONG, UNSURE, painted};
use super::printable::printable;
use crate::kill_matrix::{Fate, FaultOutcome, FaultReport};

/// The report of `run` and `check`.
pub fn run(report: &RunReport) -> String {
    let report = &printable(report);
    // Files that a run left name no trainer and no contract.
    let mut text = match (report.trainer.as_str(), report.conventions()) {
        ("", _) => String::new(),
        (trainer, None) => format!("{trainer}\n"),
        (trainer, Some(contract)) => format!("{trainer}\ncontract: {contract}\n"),
    };
    report.notes.iter().for_each(|note| put(&mut text, format_args!("{note}\n")));
    if !text.is_empty() {
        text.push('\n');
    }
    let longest = |width: usize, it: &Outcome| width.max(it.scenario.chars().count().min(60));
    let ids = report.outcomes.iter().fold(0, longest);
    let proofs: Vec<String> = report.outcomes.iter().map(proof).collect();
    let proof_width = proofs.iter().map(|proof| proof.chars().count().min(90)).max().unwrap_or(0);
    for (outcome, proof) in report.outcomes.iter().zip(&proofs) {
        let (style, mark) = mark(outcome.verdict);
        let mark = painted(style, format!("{mark:<12}"));
        let seconds = painted(FAINT, format!("{:>6.1} s", outcome.seconds));
        put(
            &mut text,
            format_args!("{mark}  {:<ids$}  {proof:<proof_width$}  {seconds}\n", outcome.scenario),
        );
        for note in &outcome.notes {
            put(&mut text, format_args!("{:14}{:<ids$}  {}\n", "", "", painted(FAINT, note)));
        }
    }
    for outcome in &report.outcomes {
        findings(&mut text, outcome);
    }
    put(&mut text, format_args!("\n{}\n", report.summary));
    text
}

/// The report of `faults`; `differences` from the golden matrix come last.
pub fn faults(report: &FaultReport, differences: &[String]) -> String {
    let mut text = String::new();
    let width = |of: fn(&FaultOutcome) -> &str| {
        report.faults.iter().map(|fault| of(fault).chars().count()).max().unwrap_or(0)
    };
    let (ids, scenarios, components) =
        (width(|it| &it.fault), width(|it| &it.scenario), width(|it| &it.component));
    for it in &report.faults {
        let style = if it.verdict == Fate::Caught { GOOD } else { BAD };
        let fate = painted(style, format!("{:<8}", it.verdict.name()));
        let random = it.random.map(|share| format!("{}/{}", share.caught, share.tried)).unwrap_or_default();
        let by = match it.broke.as_slice() {
            [] => "nothing broke".to_owned(),
            broke => broke.join(", "),
        };
        put(
            &mut text,
            format_args!(
                "{fate}  {:<ids$}  {:<scenarios$}  {random:>5}  {:<components$}  {by}\n",
                it.fault, it.scenario, it.component
            ),
        );
        if it.verdict != Fate::Caught {
            let may = if it.may.is_empty() { String::new() } else { format!("; may: {}", it.may.join(", ")) };
            put(&mut text, format_args!("{:10}must: {}{may}\n", "", it.expected.join(", ")));
        }
    }
    let counts: Vec<String> = Fate::ALL
        .into_iter()
        .map(|fate| format!("{} {}", report.summary.get(fate.name()).copied().unwrap_or(0), fate.name()))
        .collect();
    put(&mut text, format_args!("\n{}\n", counts.join(", ")));
    for difference in differences {
        put(&mut text, format_args!("{}\n", painted(BAD, difference)));
    }
    text
}

/// What a verdict rests on, or what stands in its way.
pub(super) fn proof(outcome: &Outcome) -> String {
    if let Some(reason) = outcome.reason.as_ref().filter(|_| outcome.verdict != Verdict::Broken) {
        return reason.clone();
    }
    let counted = |name: &str| outcome.counted.get(name).copied().unwrap_or(0);
    let (cuts, runs) = (counted("cuts"), counted("runs"));
    let mut parts = match (cuts, runs) {
        (0, 0) => Vec::new(),
        (0, runs) => vec![many(runs, "run")],
        (cuts, _) => vec![many(cuts, "cut")],
    };
    let of_several = match counted("optimizers") {
        0 | 1 => String::new(),
        several => format!(" of {}", many(several, "optimizer")),
    };
    parts.extend(Some(counted("updates")).filter(|&it| it > 0).map(|it| many(it, "update") + &of_several));
    parts.extend(outcome.observed.iter().cloned());
    parts.push(many(outcome.compared.values().sum(), "comparison"));
    if !outcome.findings.is_empty() {
        parts.push(many(outcome.findings.len() as u64, "finding"));
    } else if bit_for_bit(outcome) {
        parts.push(match counted("repeats") {
            0 => "bit-identical".to_owned(),
            repeats => format!("within the spread of {}", many(repeats, "repeat")),
        });
    }
    parts.extend(waste(counted("tokens"), counted("positions")));
    parts.join(", ")
}

/// Whether something was compared bit for bit.
fn bit_for_bit(outcome: &Outcome) -> bool {
    outcome.compared.keys().filter_map(|name| find(name)).any(|rule| rule.compares.bit_for_bit())
}

/// The share of positions that held padding.
fn waste(tokens: u64, positions: u64) -> Option<String> {
    let padding = positions.checked_sub(tokens).filter(|&padding| padding > 0)?;
    Some(format!("{:.0} % padding", 100.0 * padding as f64 / positions as f64))
}

fn findings(text: &mut String, outcome: &Outcome) {
    let mut told = 0;
    for root in roots(outcome) {
        let (finding, following) = (root.finding, &root.following);
        told += 1 + following.len();
        let head = format!("{}: {}", outcome.scenario, root.head);
        put(text, format_args!("\n{}\n", painted(STRONG, head)));
        for (name, value) in fields(finding) {
            let name = painted(FAINT, format!("{name:<9}"));
            put(text, format_args!("  {name}  {}\n", within_its_block(&value)));
        }
        if let Some(waived) = &finding.waived {
            put(text, format_args!("  {}\n", painted(UNSURE, waived)));
        }
        if !following.is_empty() {
            put(text, format_args!("  {}\n", painted(FAINT, root.and_more())));
        }
        for line in following {
            put(text, format_args!("    {}\n", within_its_block(line)));
        }
    }
    if outcome.findings.len() > told {
        let all = many(outcome.findings.len() as u64, "finding");
        put(text, format_args!("\n{}: {all} in all; --format json has each\n", outcome.scenario));
    }
}

/// What a trainer says may have several lines.
fn within_its_block(value: &str) -> String {
    value.lines().collect::<Vec<&str>>().join("\n             ")
}

/// What a finding says, by name.
pub(super) fn fields(finding: &Finding) -> [(&'static str, String); 6] {
    let of = if finding.line == 0 { "," } else { " of" };
    [
        ("where", format!("{}{of} {}", stands(finding), finding.trace)),
        ("expected", finding.expected.clone()),
        ("actual", finding.actual.clone()),
        ("cause", finding.cause.clone()),
        ("component", finding.component.to_string()),
        ("reproduce", finding.reproduce.clone()),
    ]
}

/// A finding on one line, for a log.
pub fn line(finding: &Finding) -> String {
    let Finding { invariant, run, at, expected, actual, cause, .. } = finding;
    let waived = finding.waived.as_ref().map(|waived| format!("; {waived}")).unwrap_or_default();
    format!("{invariant} in {run} at {}: expected {expected}, found {actual}; {cause}{waived}", place(at))
}

/// Where a finding stands in its file. What a run left beside a trace has no lines.
pub(super) fn stands(finding: &Finding) -> String {
    match finding.line {
        0 => place(&finding.at),
        line => format!("{}, line {line}", place(&finding.at)),
    }
}

pub(super) fn place(at: &At) -> String {
    let mut place = at.event.replace('_', "-");
    if let Some(name) = &at.name {
        put(&mut place, format_args!(" {name}"));
    }
    if let Some(index) = at.index {
        put(&mut place, format_args!(" {index}"));
    }
    if let Some(epoch) = at.epoch {
        put(&mut place, format_args!(" of epoch {epoch}"));
    }
    if let Some(step) = at.step {
        put(&mut place, format_args!(" at step {step}"));
    }
    place
}

/// A verdict by sign and word.
pub(super) fn mark(verdict: Verdict) -> (Style, &'static str) {
    match verdict {
        Verdict::Held => (GOOD, "✓ held"),
        Verdict::Broken => (BAD, "✗ broken"),
        Verdict::NotJudged => (UNSURE, "? not judged"),
        Verdict::Waived => (UNSURE, "~ waived"),
    }
}

/// `1 cut`, `1,341 updates`.
pub(super) fn many(count: u64, what: &str) -> String {
    let digits = count.to_string();
    let mut grouped = String::new();
    for (at, digit) in digits.chars().enumerate() {
        if at > 0 && (digits.len() - at).is_multiple_of(3) {
            grouped.push(',');
        }
        grouped.push(digit);
    }
    format!("{grouped} {what}{}", if count == 1 { "" } else { "s" })
}

fn put(text: &mut String, what: std::fmt::Arguments) {
    // Writing to a string does not fail.
    let _ = text.write_fmt(what);
}
