//! What continuous integration reads: a scenario is a test case, its findings are its failure, and what was not judged is
//! skipped, with its reason.

use std::collections::BTreeSet;
use std::time::Duration;

use quick_junit::{NonSuccessKind, Report, SerializeError, TestCase, TestCaseStatus, TestSuite};
use traintrue_judge::verdict::{Outcome, RunReport, Verdict};

use super::text;
use crate::kill_matrix::{Fate, FaultReport};

/// The report of `run` and `check`.
pub fn run(report: &RunReport) -> Result<String, SerializeError> {
    suite(
        &report.trainer,
        report
            .outcomes
            .iter()
            .map(|outcome| {
                let mut case = TestCase::new(&outcome.scenario, status(outcome));
                case.set_time(Duration::from_secs_f64(outcome.seconds.max(0.0)));
                case
            })
            .chain(report.errors.iter().map(|error| {
                let mut status = TestCaseStatus::non_success(NonSuccessKind::Error);
                status.set_message(error.clone());
                TestCase::new("scenario file", status)
            })),
    )
}

/// The report of `faults`: a fault is a test case, which fails unless it was caught.
pub fn faults(report: &FaultReport) -> Result<String, SerializeError> {
    suite(
        "faults",
        report.faults.iter().map(|fault| {
            let status = match fault.verdict {
                Fate::Caught => TestCaseStatus::success(),
                fate => {
                    let (must, broke) = (fault.expected.join(", "), fault.broke.join(", "));
                    failure(fate.name(), format!("must break: {must}\nbroke: {broke}"))
                }
            };
            let mut case = TestCase::new(&fault.fault, status);
            case.set_classname(&fault.scenario);
            case
        }),
    )
}

fn suite(name: &str, cases: impl Iterator<Item = TestCase>) -> Result<String, SerializeError> {
    let mut suite = TestSuite::new(name);
    suite.add_test_cases(cases);
    let mut report = Report::new("traintrue");
    report.add_test_suite(suite);
    report.to_string()
}

fn status(outcome: &Outcome) -> TestCaseStatus {
    match outcome.verdict {
        Verdict::Held => TestCaseStatus::success(),
        Verdict::NotJudged => {
            let mut status = TestCaseStatus::skipped();
            status.set_message(outcome.reason.clone().unwrap_or_default());
            status
        }
        Verdict::Waived => {
            let findings = outcome.findings.iter().flat_map(|it| &it.waived).map(ToString::to_string);
            let waived: BTreeSet<String> = outcome.reason.iter().cloned().chain(findings).collect();
            let mut status = TestCaseStatus::skipped();
            status
                .set_message(waived.into_iter().collect::<Vec<_>>().join("; "))
                .set_description(lines(outcome));
            status
        }
        Verdict::Broken => {
            let first = outcome.findings.iter().find(|finding| finding.waived.is_none());
            failure(first.map_or("broken", |finding| &finding.invariant), lines(outcome))
        }
    }
}

fn lines(outcome: &Outcome) -> String {
    outcome.findings.iter().map(text::line).collect::<Vec<_>>().join("\n")
}

fn failure(message: &str, description: String) -> TestCaseStatus {
    let mut status = TestCaseStatus::non_success(NonSuccessKind::Failure);
    status.set_message(message).set_description(description);
    status
}
