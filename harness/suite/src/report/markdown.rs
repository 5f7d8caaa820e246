//! What the page of a CI job shows: the verdicts as a table, and the first finding of each invariant.

use std::fmt::Write;

use traintrue_judge::verdict::{Outcome, RunReport};
use traintrue_memory::markdown::plain;

use super::folded::roots;
use super::printable::printable;
use super::text::{fields, mark, proof};

/// The page of `run`.
pub fn run(report: &RunReport) -> String {
    let report = &printable(report);
    let mut page = format!("# traintrue: {}\n\n", report.summary);
    let contract = report.conventions().map(|contract| format!(" Contract: {contract}.")).unwrap_or_default();
    put(&mut page, format_args!("{}.{contract}\n\n", plain(&report.trainer)));
    for note in &report.notes {
        put(&mut page, format_args!("{}\n\n", plain(note)));
    }
    for error in &report.errors {
        put(&mut page, format_args!("**Error:** {}\n\n", plain(error)));
    }
    page.push_str("| verdict | scenario | what was proved |\n|---|---|---|\n");
    for outcome in &report.outcomes {
        let (_, mark) = mark(outcome.verdict);
        let (scenario, proof) = (plain(&outcome.scenario), plain(&proof(outcome)));
        put(&mut page, format_args!("| {mark} | {scenario} | {proof} |\n"));
    }
    report.outcomes.iter().for_each(|outcome| findings(&mut page, outcome));
    page
}

fn findings(page: &mut String, outcome: &Outcome) {
    for root in roots(outcome) {
        put(page, format_args!("\n## {}: {}\n\n", plain(&outcome.scenario), plain(&root.head)));
        for (name, value) in fields(root.finding) {
            put(page, format_args!("- **{name}** {}\n", plain(&value)));
        }
        if let Some(waived) = &root.finding.waived {
            put(page, format_args!("- **{}**\n", plain(&waived.to_string())));
        }
        if !root.following.is_empty() {
            put(page, format_args!("- {}\n", root.and_more()));
        }
        for line in &root.following {
            put(page, format_args!("  - {}\n", plain(line)));
        }
    }
}

fn put(text: &mut String, what: std::fmt::Arguments) {
    // Writing to a string does not fail.
    let _ = text.write_fmt(what);
}
