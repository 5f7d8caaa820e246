//! The command line through the real binary: exit codes, documents, reports and recorded traces.

use std::fs;
use std::path::{Path, PathBuf};

use rstest::rstest;
use traintrue::kill_matrix::FaultReport;
use traintrue_judge::finding::Finding;
use traintrue_judge::verdict::{RunReport, Verdict};
use traintrue_protocol::contract::Description;

use crate::binary::{Ran, traintrue, traintrue_reading};
use crate::in_process::events;
use crate::inputs::{PLAN, own_scenario, scripted_trainer};

/// What a finding says, but for how it is labelled.
fn essence(report: &RunReport) -> Vec<(String, String, u64, String, String)> {
    let of = |it: &Finding| {
        (it.invariant.clone(), it.run.clone(), it.line, it.expected.clone(), it.actual.clone())
    };
    let mut found: Vec<_> = report.outcomes.iter().flat_map(|outcome| &outcome.findings).map(of).collect();
    found.sort();
    found
}

fn run(arguments: &[&str]) -> Ran {
    traintrue(&[&["run", "checkpoint-is-pure"], arguments].concat())
}

#[test]
fn a_scenario_that_holds_is_exit_0_and_one_document() {
    let ran = run(&["--format", "json"]).with_exit(0);
    let report: RunReport = ran.document();
    assert_eq!((report.schema, report.summary.held), (1, 1));
    assert!(ran.stderr.contains("checkpoint-is-pure: held"), "progress goes to standard error: {ran:?}");
}

#[test]
fn a_broken_scenario_is_exit_1_and_its_findings_say_where() {
    let ran =
        traintrue(&["run", "checkpoint", "--fault", fault_of("checkpoint-is-pure"), "--format", "json"]);
    let report: RunReport = ran.with_exit(1).document();
    assert_eq!(report.summary.broken, 1);
    assert!(
        report.outcomes[0].findings.iter().all(|it| it.line > 0 && it.reproduce.starts_with("traintrue "))
    );
}

/// A fault that breaks a quick scenario in the same place each time.
pub fn fault_of(scenario: &str) -> &'static str {
    let planned = traintrue::scenario::Catalogue::load(None).unwrap();
    let known = traintrue_reference::faults();
    let first = &planned.find(scenario).unwrap().faults[0].id;
    known.into_iter().find(|id| id == first).unwrap()
}

#[test]
fn a_trainer_that_cannot_resume_is_exit_3_with_the_reason() {
    let trainer = scripted_trainer("exit 9");
    let ran = traintrue(&["run", "resume", "--trainer", &trainer.command, "--format", "json"]).with_exit(3);
    let outcome = &ran.document::<RunReport>().outcomes[0];
    assert_eq!((outcome.verdict, outcome.reason.as_deref()), (Verdict::NotJudged, Some("no resume")));
}

#[test]
fn a_trainer_that_crashes_is_broken_and_not_an_error_of_the_request() {
    let trainer = scripted_trainer("echo 'out of luck' >&2; exit 9");
    let ran =
        traintrue(&["run", "determinism", "--trainer", &trainer.command, "--format", "json"]).with_exit(1);
    let finding = &ran.document::<RunReport>().outcomes[0].findings[0];
    assert_eq!((finding.invariant.as_str(), finding.actual.as_str()), ("protocol/answers", "exit status: 9"));
    assert!(finding.cause.ends_with("out of luck"), "{}", finding.cause);
}

#[test]
fn a_broken_baseline_is_exit_4_and_no_fault_is_tried() {
    // The second run has another seed: no trainer holds that.
    let folder = own_scenario("mine", |text| {
        text.replace("name = \"again\"", "name = \"again\"\nwith = { seed = 12 }")
    });
    let folder = folder.path().to_str().unwrap();
    let ran = traintrue(&["faults", "mine", "--scenarios", folder, "--format", "json"]).with_exit(4);
    let report: FaultReport = ran.document();
    assert_eq!((report.baseline, report.faults.len()), (Verdict::Broken, 0));
}

#[rstest]
#[case(&["run", "no-such"], "no scenario's id begins with \"no-such\"; nearest: ")]
#[case(&["run", "determinsm"], "nearest: determinism")]
#[case(&["run", "--fault", "unseeded-ordr"], "--fault: no fault is called \"unseeded-ordr\"; nearest: unseeded-order")]
#[case(&["run", "--device", "tpu"], "unknown device \"tpu\": expected ndarray, flex, cuda:N or wgpu:N")]
#[case(&["run", "--trainer", "/no/such/trainer"], "cannot be started: No such file")]
#[case(&["faults", "no-such"], "no scenario's id begins with \"no-such\"")]
#[case(&["faults", "--fault", "unseeded-ordr"], "nearest: unseeded-order")]
#[case(&["check", "/no/such.jsonl"], "/no/such.jsonl: cannot read the trace")]
#[case(&["explain", "determinsm"], "nearest: determinism")]
#[case(&["train", "--plan", "/no/such.json"], "/no/such.json: cannot read the plan")]
#[case(&["run", "--jobs", "0"], "--jobs")]
#[case(&["rum"], "")]
fn a_wrong_request_is_exit_2_and_says_what_may_have_been_meant(
    #[case] arguments: &[&str],
    #[case] message: &str,
) {
    let ran = traintrue(arguments).with_exit(2);
    assert!(ran.stderr.contains(message), "{}", ran.stderr);
    assert_eq!(ran.stdout, "");
}

#[rstest]
#[case(&["run", "determinism", "--device", "cuda:0"], "")]
#[case(&["train", "--device", "cuda:0"], PLAN)]
#[case(&["train", "--device", "cuda:99"], PLAN)]
fn a_gpu_that_is_not_there_is_said_so(#[case] arguments: &[&str], #[case] input: &str) {
    let ran = traintrue_reading(input.as_bytes(), arguments);
    // Where there is one, the first two run.
    if ran.exit != 0 {
        assert!(ran.stderr.contains(" is not available: "), "{}", ran.stderr);
        ran.with_exit(2);
    }
}

#[test]
fn junit_has_a_case_a_scenario_and_its_failure() {
    let fault = fault_of("checkpoint-is-pure");
    let ran = traintrue(&["run", "checkpoint-is-pure", "determinism", "--fault", fault, "--format", "junit"]);
    let report = quick_junit::Report::deserialize_from_str(&ran.stdout).unwrap();
    let cases: Vec<_> = report.test_suites.iter().flat_map(|suite| &suite.test_cases).collect();
    let failed = |name: &str| {
        let case = cases.iter().find(|case| case.name.as_str() == name).unwrap();
        matches!(case.status, quick_junit::TestCaseStatus::NonSuccess { .. })
    };
    assert_eq!(cases.len(), 2);
    assert!(failed("checkpoint-is-pure"));
    ran.with_exit(1);
}

#[test]
fn a_report_keeps_traces_that_check_judges_as_the_run_did() {
    let folder = tempfile::tempdir().unwrap();
    let kept = folder.path().to_str().unwrap();
    let fault = fault_of("checkpoint-is-pure");
    let ran = run(&["--fault", fault, "--report", kept, "--format", "json"]).with_exit(1);
    let report: RunReport = ran.document();
    let file = fs::read_to_string(folder.path().join("report.json")).unwrap();
    assert_eq!(serde_json::from_str::<RunReport>(&file).unwrap(), report);
    let junit = fs::read_to_string(folder.path().join("junit.xml")).unwrap();
    assert!(quick_junit::Report::deserialize_from_str(&junit).is_ok());

    let traces = traces(&folder.path().join("traces/checkpoint-is-pure"));
    assert!(report.outcomes[0].findings.iter().all(|it| traces.contains(&PathBuf::from(&it.trace))));
    let mut arguments = vec!["check".to_owned(), "--format".into(), "json".into()];
    arguments.extend(traces.iter().map(|path| path.display().to_string()));
    let checked: RunReport = traintrue(&arguments).with_exit(1).document();
    assert_eq!(essence(&checked), essence(&report));
}

fn traces(folder: &Path) -> Vec<PathBuf> {
    let files = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    files.filter(|path| path.extension().is_some_and(|extension| extension == "jsonl")).collect()
}

#[test]
fn a_plan_goes_in_a_trace_comes_out_and_check_judges_it() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.jsonl");
    let trained = traintrue_reading(PLAN.as_bytes(), &["train"]).with_exit(0);
    fs::write(&path, &trained.stdout).unwrap();
    assert!(events(&path).len() > 4);
    let ran = traintrue(&["check", path.to_str().unwrap(), "--format", "json"]).with_exit(0);
    let outcome = &ran.document::<RunReport>().outcomes[0];
    assert!(outcome.compared["schedule/closed-form"] > 0);
    assert!(outcome.notes[0].contains("no scenario is called \"by-hand\""), "{:?}", outcome.notes);
}

#[rstest]
#[case("equal", 0)]
#[case("seam", 0)]
fn two_traces_are_held_against_each_other_as_asked(#[case] relation: &str, #[case] exit: i32) {
    let folder = tempfile::tempdir().unwrap();
    let trace = |name: &str| {
        let path = folder.path().join(name);
        fs::write(&path, traintrue_reading(PLAN.as_bytes(), &["train"]).stdout).unwrap();
        path.display().to_string()
    };
    let (one, other) = (trace("one.jsonl"), trace("other.jsonl"));
    traintrue(&["check", &one, "--against", &other, "--as", relation]).with_exit(exit);
}

#[test]
fn a_corpus_that_is_too_short_is_repeated_and_the_report_says_so() {
    let folder = tempfile::tempdir().unwrap();
    let corpus = folder.path().join("my corpus.jsonl");
    fs::write(&corpus, "{\"text\": \"Call me Ishmael.\"}\n{\"text\": \"Some years ago\"}\n").unwrap();
    let corpus = corpus.to_str().unwrap();
    let report: RunReport = run(&["--corpus", corpus, "--format", "json"]).with_exit(0).document();
    let notes = &report.outcomes[0].notes;
    assert!(notes.iter().any(|note| note.contains("the corpus is too short: it was repeated")), "{notes:?}");
    assert!(run(&["--corpus", corpus]).stdout.contains("the corpus is too short"));
}

#[test]
fn the_catalogue_is_one_page_in_the_folder_that_was_asked_for() {
    let folder = tempfile::tempdir().unwrap();
    let into = folder.path().join("pages");
    let listed = traintrue(&["list", "--report", into.to_str().unwrap()]).with_exit(0);
    assert_eq!(listed.stdout, traintrue(&["list"]).stdout);
    let page = fs::read_to_string(into.join("catalogue.html")).unwrap();
    assert!(page.contains("id=\"resume-mid-window\""), "{page}");
    let file = into.join("catalogue.html");
    let refused = traintrue(&["list", "--report", file.to_str().unwrap()]).with_exit(2);
    assert!(refused.stderr.contains("cannot write"), "{}", refused.stderr);
}

#[test]
fn the_catalogue_is_listed_as_a_document() {
    let list: serde_json::Value = traintrue(&["list", "--format", "json"]).with_exit(0).document();
    for (kind, id) in [
        ("scenarios", "determinism"),
        ("faults", "unseeded-order"),
        ("invariants", "seam/identical"),
        ("components", "boundary"),
        ("capabilities", "resume"),
    ] {
        let entries = list[kind].as_array().unwrap();
        assert!(entries.iter().any(|entry| entry["id"] == id && entry["says"] != ""), "{kind}");
    }
    assert!(!list["classes"].as_array().unwrap().is_empty());
}

#[rstest]
#[case("determinism", "where it bit")]
#[case("unseeded-order", "must break")]
#[case("seam/identical", "does not verify")]
#[case("moments", "planted faults")]
#[case("resume", "needed by")]
fn each_kind_of_thing_is_explained(#[case] id: &str, #[case] section: &str) {
    let ran = traintrue(&["explain", id]).with_exit(0);
    assert!(ran.stdout.contains(section), "{}", ran.stdout);
}

#[test]
fn the_reference_trainer_describes_itself_on_one_line() {
    let ran = traintrue(&["describe"]).with_exit(0);
    assert_eq!(ran.stdout.lines().count(), 1);
    assert_eq!(ran.document::<Description>(), traintrue_reference::describe());
}
