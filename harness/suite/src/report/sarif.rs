//! What code scanning reads: SARIF 2.1.0. A rule is an invariant, a result is a finding, and its place is a line of a trace.
//!
//! What is waived is suppressed, with its reason; what was not judged is a notification, for it is no result.
//! See <https://docs.oasis-open.org/sarif/sarif/v2.1.0/sarif-v2.1.0.html>.

use percent_encoding::{AsciiSet, CONTROLS, utf8_percent_encode};
use serde_json::{Value, json};
use traintrue_judge::finding::Finding;
use traintrue_judge::rules;
use traintrue_judge::verdict::{Outcome, RunReport, Verdict};

use super::text::{line, place};

/// What may not stand in the path of a URI (RFC 3986, section 3.3).
const NOT_IN_A_PATH: &AsciiSet = &CONTROLS
    .add(b' ')
    .add(b'"')
    .add(b'#')
    .add(b'%')
    .add(b'<')
    .add(b'>')
    .add(b'?')
    .add(b'[')
    .add(b'\\')
    .add(b']')
    .add(b'^')
    .add(b'`')
    .add(b'{')
    .add(b'|')
    .add(b'}');

/// The document of `run` and `check`.
pub fn run(report: &RunReport) -> Value {
    let findings = || report.outcomes.iter().flat_map(|outcome| &outcome.findings);
    let mut rules: Vec<&str> = findings().map(|finding| finding.invariant.as_str()).collect();
    rules.sort_unstable();
    rules.dedup();
    let results =
        report.outcomes.iter().flat_map(|outcome| outcome.findings.iter().map(move |it| (outcome, it)));
    json!({
        "$schema": "https://json.schemastore.org/sarif-2.1.0.json",
        "version": "2.1.0",
        "runs": [{
            "tool": { "driver": {
                "name": "traintrue",
                "semanticVersion": env!("CARGO_PKG_VERSION"),
                "rules": rules.iter().map(|name| rule(name)).collect::<Vec<_>>(),
            } },
            "invocations": [{
                "executionSuccessful": true,
                "toolExecutionNotifications": report.outcomes.iter().filter_map(not_judged).collect::<Vec<_>>(),
            }],
            "properties": { "trainer": report.trainer, "contract": report.contract.to_string(), "notes": report.notes },
            "results": results.map(|(outcome, it)| result(outcome, it, &rules)).collect::<Vec<_>>(),
        }],
    })
}

fn rule(name: &str) -> Value {
    match rules::find(name) {
        None => json!({ "id": name }),
        Some(rule) => json!({
            "id": name,
            "shortDescription": { "text": rule.says },
            "fullDescription": { "text": rule.verifies },
            "help": { "text": format!("traintrue explain {name}") },
        }),
    }
}

fn result(outcome: &Outcome, finding: &Finding, rules: &[&str]) -> Value {
    let scenario = &outcome.scenario;
    let mut result = json!({
        "ruleId": finding.invariant,
        "ruleIndex": rules.iter().position(|name| *name == finding.invariant),
        "level": "error",
        "message": { "text": format!("{scenario}: {}. Reproduce: {}", line(finding), finding.reproduce) },
        "locations": [{
            "physicalLocation": {
                "artifactLocation": { "uri": uri(&finding.trace) },
                "region": { "startLine": finding.line.max(1) },
            },
            "logicalLocations": [{
                "name": place(&finding.at),
                "fullyQualifiedName": format!("{scenario}/{}", finding.run),
            }],
        }],
        // The same failure of the same run is one alert, wherever its trace lies.
        "partialFingerprints": { "finding/v1": format!("{scenario} {} {}", finding.run, finding.invariant) },
        "properties": { "component": finding.component },
    });
    if let Some(waived) = &finding.waived {
        result["suppressions"] =
            json!([{ "kind": "external", "status": "accepted", "justification": waived.to_string() }]);
    }
    result
}

fn not_judged(outcome: &Outcome) -> Option<Value> {
    let reason = outcome.reason.as_ref().filter(|_| outcome.verdict == Verdict::NotJudged)?;
    Some(json!({
        "level": "warning",
        "message": { "text": format!("{}: not judged: {reason}", outcome.scenario) },
    }))
}

/// A trace that stays has an absolute path; of another, only the name is known.
fn uri(trace: &str) -> String {
    let path = utf8_percent_encode(trace, NOT_IN_A_PATH);
    if trace.starts_with('/') { format!("file://{path}") } else { path.to_string() }
}
