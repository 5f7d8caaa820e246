//! The command that a finding prints is run as it is printed, and finds the same.

use std::fs;

use rstest::rstest;
use traintrue_judge::verdict::RunReport;

use crate::binary::traintrue;
use crate::inputs::{double, repository, scenarios_of_the_double};

/// What each finding found, and where.
fn found(report: &RunReport) -> Vec<(String, String, u64)> {
    let findings = report.outcomes.iter().flat_map(|outcome| &outcome.findings);
    findings.map(|it| (it.invariant.clone(), it.run.clone(), it.line)).collect()
}

/// Runs what the first finding of `arguments` prints.
fn reproduced(arguments: &[&str]) {
    let first: RunReport = traintrue(arguments).with_exit(1).document();
    let printed = &first.outcomes[0].findings[0].reproduce;
    let words = shlex::split(printed).unwrap();
    assert_eq!(words[0], "traintrue");
    let mut again = words[1..].to_vec();
    if !again.contains(&"--format".to_owned()) {
        again.extend(["--format".to_owned(), "json".to_owned()]);
    }
    let second: RunReport = traintrue(&again).with_exit(1).document();
    assert_eq!(found(&second), found(&first), "{printed}");
}

#[rstest]
#[case("checkpoint-is-pure", "saving-leaves-evaluation-mode")]
#[case("evaluation-is-pure", "dropout-stays-off")]
#[case("kv-cache-with-checkpointing", "cache-kept-in-training")]
fn the_command_of_a_finding_finds_it_again(#[case] scenario: &str, #[case] fault: &str) {
    reproduced(&["run", scenario, "--fault", fault, "--format", "json"]);
}

#[test]
fn it_names_the_random_plan() {
    reproduced(&[
        "run",
        "evaluation-is-pure",
        "--fault",
        "dropout-stays-off",
        "--seed",
        "5",
        "--format",
        "json",
    ]);
}

#[test]
fn it_names_ones_own_text_and_quotes_it_for_a_shell() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = folder.path().join("Ahab's text.jsonl");
    fs::write(&corpus, "{\"text\": \"Call me Ishmael. Some years ago, never mind how long precisely\"}\n")
        .unwrap();
    let corpus = corpus.to_str().unwrap();
    let fault = ["--fault", "dropout-stays-off", "--format", "json"];
    reproduced(&[&["run", "evaluation-is-pure", "--corpus", corpus], &fault[..]].concat());
}

#[test]
fn it_names_ones_own_trainer_and_scenarios() {
    let (trainer, scenarios) = (double("moments-not-restored"), scenarios_of_the_double());
    let own = ["--trainer", &trainer, "--scenarios", &scenarios, "--format", "json"];
    reproduced(&[&["run", "two-parameters"], &own[..]].concat());
}

#[test]
fn it_names_the_configuration() {
    let (folder, config) = repository("moments-not-restored", "");
    reproduced(&["run", "two-parameters", "--config", &config, "--format", "json"]);
    drop(folder);
}

#[test]
fn a_recorded_trace_is_checked_again() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().join("a report");
    let kept = kept.to_str().unwrap();
    let fault = ["--fault", "cache-kept-in-training", "--report", kept, "--format", "json"];
    let report: RunReport =
        traintrue(&[&["run", "kv-cache-with-checkpointing"], &fault[..]].concat()).with_exit(1).document();
    let trace = &report.outcomes[0].findings[0].trace;
    reproduced(&["check", trace, "--format", "json"]);
}
