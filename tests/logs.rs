//! Logs that libraries wrote, checked and gated by the real binary: clean ones, and ones of runs with a planted bug.

use std::fs;

use rstest::rstest;
use serde_json::Value;
use tempfile::TempDir;
use traintrue_judge::verdict::{Outcome, RunReport, Verdict};

use crate::binary::{Ran, traintrue};

/// What every run of `golden/logs` was told.
const RATES: [&str; 8] = ["--lr", "1e-3", "--schedule", "linear", "--warmup", "4", "--updates", "24"];
/// The columns of its loop of its own.
const JSON: &str = "step=global_step,loss=train/loss,lr=lr,grad_norm=norm";
const CSV: &str = "step=iteration,loss=train loss,lr=rate,rss=memory";
const TEXT: &str = r"step (?P<step>\d+)/.* loss (?P<loss>\S+) .* lr (?P<lr>\S+) .* norm (?P<grad_norm>\S+)";

fn golden(name: &str) -> String {
    format!("{}/golden/logs/{name}", env!("CARGO_MANIFEST_DIR"))
}

fn check(path: &str, more: &[&str]) -> Ran {
    traintrue(&[&["check", path, "--format", "json"], &RATES[..], more].concat())
}

fn only(ran: &Ran) -> Outcome {
    let mut report: RunReport = ran.document();
    assert_eq!(report.outcomes.len(), 1, "{report:#?}");
    report.outcomes.remove(0)
}

#[rstest]
#[case::tensorboard("tensorboard", &[], 12, Some(12))]
#[case::tensorboard_resumed("tensorboard-resumed", &[], 14, Some(14))]
#[case::mlflow("mlflow", &[], 12, Some(12))]
#[case::wandb("wandb", &[], 12, Some(12))]
#[case::wandb_file("wandb/run-1.wandb", &[], 12, Some(12))]
#[case::llama_factory("llama-factory/trainer_log.jsonl", &[], 12, None)]
#[case::lightning("lightning", &[], 12, None)]
#[case::lightning_table("lightning/metrics.csv", &[], 12, None)]
#[case::lightning_tensorboard("lightning-tensorboard", &[], 12, None)]
#[case::json_lines("plain.jsonl", &["--columns", JSON], 24, Some(24))]
#[case::csv("plain.csv", &["--columns", CSV], 24, None)]
#[case::text("plain.txt", &["--pattern", TEXT], 24, Some(24))]
fn the_log_of_a_clean_run_is_held(
    #[case] name: &str,
    #[case] more: &[&str],
    #[case] rates: u64,
    #[case] norms: Option<u64>,
) {
    let outcome = only(&check(&golden(name), more).with_exit(0));
    assert_eq!(outcome.verdict, Verdict::Held, "{outcome:#?}");
    assert_eq!(outcome.compared["schedule/closed-form"], rates, "{outcome:#?}");
    assert!(outcome.compared["artefact/log"] > 0, "{outcome:#?}");
    let finite = outcome.compared.get("finite/everywhere").copied();
    assert!(finite >= norms, "{outcome:#?}");
    assert!(outcome.notes.iter().any(|note| note.starts_with("read as ")), "{outcome:#?}");
}

#[rstest]
#[case::tensorboard("tensorboard-steps-twice", &[], "schedule/closed-form", "lr ")]
#[case::counts_anew("tensorboard-counts-anew", &["--updates", "18"], "artefact/log", "step 12 or later")]
#[case::mlflow("mlflow-steps-twice", &[], "schedule/closed-form", "lr ")]
#[case::wandb("wandb-steps-twice", &[], "schedule/closed-form", "lr ")]
#[case::llama_factory("llama-factory-steps-twice", &[], "schedule/closed-form", "lr ")]
#[case::lightning("lightning-steps-twice", &[], "schedule/closed-form", "lr ")]
#[case::nan("lightning-nan", &[], "artefact/log", "a finite number")]
#[case::tensorboard_nan("lightning-tensorboard-nan", &[], "artefact/log", "a finite number")]
#[case::json_lines("plain-broken.jsonl", &["--columns", JSON], "schedule/closed-form", "lr ")]
#[case::csv("plain-broken.csv", &["--columns", CSV], "schedule/closed-form", "lr ")]
#[case::text("plain-broken.txt", &["--pattern", TEXT], "schedule/closed-form", "lr ")]
fn the_bug_of_a_run_is_found_in_its_log(
    #[case] name: &str,
    #[case] more: &[&str],
    #[case] invariant: &str,
    #[case] expected: &str,
) {
    // An option that is given twice is an error, so the schedule is given once.
    let path = golden(name);
    let rates = if more.contains(&"--updates") { &RATES[..6] } else { &RATES[..] };
    let ran = traintrue(&[&["check", &path, "--format", "json"], rates, more].concat());
    let outcome = only(&ran.with_exit(1));
    let found: Vec<&str> = outcome.findings.iter().map(|it| it.invariant.as_str()).collect();
    let finding = outcome.findings.iter().find(|it| it.invariant == invariant);
    let finding = finding.unwrap_or_else(|| panic!("{found:?}"));
    assert!(finding.expected.starts_with(expected), "{finding:#?}");
}

#[test]
fn what_a_log_cannot_hold_is_said_and_is_no_finding() {
    let path = golden("lightning");
    let outcome = only(&traintrue(&["check", &path, "--format", "json"]).with_exit(0));
    let told = outcome.notes.join("\n");
    assert!(
        told.contains("schedule/closed-form: not judged: the log does not hold the training arguments"),
        "{told}"
    );
    let ran = traintrue(
        &[&["check", &golden("plain.csv"), "--columns", "step=iteration,loss=train loss"], &RATES[..]]
            .concat(),
    );
    assert!(
        ran.with_exit(3)
            .stdout
            .contains("the log has no learning rate; name its column with --columns lr=NAME")
    );
}

/// A copy of a log, changed.
fn changed(name: &str, change: impl FnOnce(&mut Vec<u8>)) -> (TempDir, String) {
    let mut bytes = fs::read(golden(name)).unwrap();
    change(&mut bytes);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join(name.rsplit('/').next().unwrap());
    fs::write(&path, bytes).unwrap();
    (folder, path.to_str().unwrap().to_owned())
}

const EVENTS: &str = "lightning-tensorboard/events.out.tfevents.1700000000.host";

#[rstest]
#[case::tensorboard(EVENTS, &[])]
#[case::wandb("wandb/run-1.wandb", &[])]
#[case::llama_factory("llama-factory/trainer_log.jsonl", &[])]
#[case::lightning("lightning/metrics.csv", &[])]
#[case::json_lines("plain.jsonl", &["--columns", JSON])]
#[case::text("plain.txt", &["--pattern", TEXT])]
fn the_log_of_a_killed_run_is_judged_up_to_there(#[case] name: &str, #[case] more: &[&str]) {
    let (_folder, path) = changed(name, |bytes| bytes.truncate(bytes.len() - 3));
    let outcome = only(&check(&path, more).with_exit(0));
    let told = outcome.notes.join("\n");
    assert!(told.contains("is incomplete and was not read: the process ended while it wrote"), "{told}");
}

#[rstest]
#[case::tensorboard(EVENTS, &[], "byte ")]
#[case::wandb("wandb/run-1.wandb", &[], "byte ")]
#[case::llama_factory("llama-factory/trainer_log.jsonl", &[], ": not a JSON object")]
#[case::table("plain.csv", &["--columns", CSV], ": not CSV")]
fn damage_within_a_log_is_one_clear_error(#[case] name: &str, #[case] more: &[&str], #[case] place: &str) {
    let (_folder, path) = changed(name, |bytes| {
        let middle = bytes.len() / 3;
        bytes[middle..middle + 8].fill(b',');
    });
    let ran = check(&path, more).with_exit(2);
    assert!(ran.stderr.contains(&path) && ran.stderr.contains(place), "{}", ran.stderr);
    assert_eq!(ran.stderr.lines().count(), 1, "{}", ran.stderr);
}

#[rstest]
#[case::no_column(&["--columns", "step=iteration,loss=trainloss"], "no column \"trainloss\" for loss; did you mean \"train loss\"?")]
#[case::no_step(&["--columns", "loss=train loss"], "")]
#[case::typo(&["--columns", "steps=iteration"], "unknown column \"steps\"; expected one of step, epoch")]
#[case::both(&["--columns", "step=a", "--pattern", "(?P<step>x)"], "cannot be used with")]
#[case::group(&["--pattern", "(?P<stp>x)"], "group \"stp\" is no column")]
#[case::no_match(&["--pattern", "(?P<step>xyz)"], "no line matches the pattern")]
fn a_layout_that_does_not_fit_is_refused(#[case] more: &[&str], #[case] why: &str) {
    let ran = check(&golden("plain.csv"), more);
    assert_eq!(ran.exit, if why.is_empty() { 3 } else { 2 }, "{ran:?}");
    assert!(ran.stderr.contains(why), "{}", ran.stderr);
}

#[rstest]
#[case::flat("plain.csv", 0)]
#[case::leak("plain-broken.csv", 1)]
fn the_gate_takes_a_column_of_memory(#[case] name: &str, #[case] exit: i32) {
    let path = golden(name);
    let ran = traintrue(&["gate", &path, "--columns", CSV, "--max-slope", "64KiB/step", "--format", "json"]);
    let document: Value = ran.with_exit(exit).document();
    assert_eq!(document["series"][0]["lane"], "rss_bytes");
}

#[rstest]
#[case::no_memory("tensorboard", &[], "no column of memory is known; name one with --columns rss=NAME")]
#[case::no_unit("plain.jsonl", &["--columns", "step=global_step,gpu=norm"], "which is not a number of bytes; give its unit")]
#[case::unit("plain.jsonl", &["--columns", "step=global_step,gpu=norm", "--unit", "gb"], "unknown unit \"gb\"")]
fn a_log_without_memory_is_refused_by_the_gate(#[case] name: &str, #[case] more: &[&str], #[case] why: &str) {
    let path = golden(name);
    let ran = traintrue(&[&["gate", &path, "--max-slope", "64KiB/step"], more].concat()).with_exit(2);
    assert!(ran.stderr.contains(why), "{}", ran.stderr);
}
