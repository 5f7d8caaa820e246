//! What a person opens in a browser: one page that needs no network and no script, in light and in dark, on a phone and on a
//! desk. Everything that comes from a trainer is text, and is escaped.

mod memory;
mod pictures;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use traintrue_judge::finding::Finding;
use traintrue_judge::verdict::{Outcome, RunReport, Verdict};

use super::folded::roots;
use super::pictures::Pictures;
use super::plot::style::sheet;
use super::printable::printable;
use super::text::{many, proof, stands};

const STYLE: &str = include_str!("html/style.css");

/// Nothing is fetched and nothing is run, even where an escape were forgotten.
const POLICY: &str = "default-src 'none'; style-src 'unsafe-inline'";

/// The page of a report, with the pictures of its runs.
pub fn run(report: &RunReport, pictures: &Pictures) -> String {
    let report = &printable(report);
    let summary = report.summary;
    html! {
        (DOCTYPE)
        html lang="en" {
            (head(name(report), POLICY, &sheet()))
            body {
                header {
                    h1 { (name(report)) }
                    p.counts {
                        @for (verdict, count) in [
                            (Verdict::Held, summary.held),
                            (Verdict::Broken, summary.broken),
                            (Verdict::NotJudged, summary.not_judged),
                            (Verdict::Waived, summary.waived),
                        ] {
                            @if count > 0 { (chip(verdict, Some(count))) }
                        }
                    }
                    @if let Some(contract) = report.conventions().filter(|_| !report.trainer.is_empty()) {
                        p { strong { "Contract: " } (contract) ". Every verdict is relative to it." }
                    }
                    @for note in &report.notes { p.note { (note) } }
                    @for error in &report.errors { p.note { strong { "Error: " } (error) } }
                }
                main {
                    (verdicts(&report.outcomes))
                    @if report.outcomes.iter().any(|outcome| !outcome.findings.is_empty()) {
                        h2 { "Findings" }
                        @for outcome in &report.outcomes { (findings(outcome)) }
                    }
                    (pictures::section(pictures))
                }
            }
        }
    }
    .into_string()
}

/// The head of a page: its title, the policy that says what it may load and run, and what its style has beside ours.
pub(super) fn head(title: &str, policy: &str, style: &str) -> Markup {
    html! {
        head {
            meta charset="utf-8";
            meta http-equiv="Content-Security-Policy" content=(policy);
            meta name="viewport" content="width=device-width, initial-scale=1";
            meta name="color-scheme" content="light dark";
            title { "traintrue: " (title) }
            style { (PreEscaped(STYLE)) (PreEscaped(style)) }
        }
    }
}

/// The trainer; a script that was cut, and files that a run left, name none.
fn name(report: &RunReport) -> &str {
    let first = report.outcomes.first().map_or("nothing", |outcome| &outcome.scenario);
    if report.trainer.is_empty() { first } else { &report.trainer }
}

fn verdicts(outcomes: &[Outcome]) -> Markup {
    html! {
        table.verdicts {
            thead { tr { th { "Verdict" } th { "Scenario" } th { "What was proved" } th.number { "Time" } } }
            tbody {
                @for outcome in outcomes {
                    tr {
                        td { (chip(outcome.verdict, None)) }
                        th scope="row" {
                            @if outcome.findings.is_empty() { (outcome.scenario) }
                            @else { a href={ "#" (outcome.scenario) } { (outcome.scenario) } }
                        }
                        td { (proved(outcome)) }
                        td.number { (format!("{:.1} s", outcome.seconds)) }
                    }
                }
            }
        }
    }
}

/// The line of the table, and behind it how much each invariant compared.
fn proved(outcome: &Outcome) -> Markup {
    html! {
        @if outcome.compared.is_empty() { (proof(outcome)) }
        @else {
            details {
                summary { (proof(outcome)) }
                ul { @for (invariant, &count) in &outcome.compared {
                    li { code { (invariant) } " " (many(count, "comparison")) }
                } }
            }
        }
        @for note in &outcome.notes { p.note { (note) } }
    }
}

/// Every finding; those that a person reads in full are open.
fn findings(outcome: &Outcome) -> Markup {
    let roots = roots(outcome);
    let root = |it: &Finding| roots.iter().any(|root| std::ptr::eq(root.finding, it));
    html! {
        @if !outcome.findings.is_empty() {
            h3 id=(outcome.scenario) { (outcome.scenario) }
            @for it in &outcome.findings { (finding(it, root(it))) }
        }
    }
}

fn finding(it: &Finding, open: bool) -> Markup {
    html! {
        details.finding.excused[it.waived.is_some()] open[open && it.waived.is_none()] {
            summary {
                code { (it.invariant) } " is broken in " strong { (it.run) }
                @if let Some(waived) = &it.waived { ", " (waived) }
            }
            dl {
                dt { "where" } dd { (stands(it)) }
                dt { "expected" } dd { (it.expected) }
                dt { "actual" } dd { (it.actual) }
                dt { "cause" } dd { (it.cause) }
                dt { "component" } dd { (it.component) }
                dt { "reproduce" } dd { code { (it.reproduce) } }
                dt { "trace" } dd { code { (it.trace) } }
            }
        }
    }
}

/// A verdict by sign, word and colour: none of the three alone.
fn chip(verdict: Verdict, count: Option<u64>) -> Markup {
    let (class, sign) = match verdict {
        Verdict::Held => ("held", "✓"),
        Verdict::Broken => ("broken", "✗"),
        Verdict::NotJudged => ("not-judged", "?"),
        Verdict::Waived => ("waived", "~"),
    };
    html! { span.chip.(class) { (sign) " " @if let Some(count) = count { (count) " " } (verdict.name()) } }
}

#[cfg(test)]
mod tests;
