//! The Python package: its unit tests, which need no torch, and loops that it recorded, judged.

use std::path::{Path, PathBuf};
use std::process::Command;

use rstest::rstest;
use traintrue::check::check;
use traintrue::scenario::Catalogue;
use traintrue_judge::verdict::{RunReport, Verdict};

/// An interpreter that is new enough, if there is one: the package wants 3.9.
fn python() -> Option<Command> {
    let recent = "import sys; sys.exit(sys.version_info < (3, 9))";
    let found = Command::new("python3").args(["-c", recent]).status();
    found.is_ok_and(|status| status.success()).then(|| {
        let mut command = Command::new("python3");
        command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("harness/python"));
        command
    })
}

#[test]
fn the_recorder_passes_its_own_tests_without_torch() {
    let Some(mut python) = python() else {
        return eprintln!("skipped: no python3 of version 3.9 or later");
    };
    let output = python
        .args(["-m", "unittest", "discover", "--start-directory", "tests", "--top-level-directory", "."])
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success() && said.contains("\nOK"), "{said}");
    assert!(!said.contains("Ran 0 tests"), "{said}");
}

fn judged(trace: &Path) -> RunReport {
    let catalogue = Catalogue::load(None).unwrap();
    check(&[trace.to_owned()], None, &catalogue, &[]).unwrap()
}

/// Writes the trace of a loop over stand-ins for torch's classes that goes wrong as `how` says.
fn recorded(how: &str) -> Option<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("run.jsonl");
    let status = python()?.args(["-m", "tests.loop", how]).arg(&trace).status().unwrap();
    assert!(status.success());
    Some((folder, trace))
}

#[rstest]
#[case::right("right", None)]
#[case::gradients_never_cleared("never-cleared", Some("window/closes-as-declared"))]
#[case::tail_dropped("tail-dropped", Some("window/closes-as-declared"))]
#[case::schedule_a_micro_batch("schedule-a-micro-batch", Some("schedule/closed-form"))]
#[case::not_in_the_optimizer("not-in-the-optimizer", Some("state/trains-what-was-asked"))]
#[case::nan("nan", Some("finite/everywhere"))]
#[case::not_clipped("not-clipped", Some("clip/global-norm"))]
#[case::evaluated_in_training_mode("evaluated-in-training-mode", Some("evaluation/changes-nothing"))]
fn a_recorded_loop_is_judged_without_a_plan(#[case] how: &str, #[case] broke: Option<&str>) {
    let Some((_folder, trace)) = recorded(how) else {
        return eprintln!("skipped: no python3 of version 3.9 or later");
    };
    let report = judged(&trace);
    let found: Vec<&str> = report.outcomes[0].findings.iter().map(|it| it.invariant.as_str()).collect();
    match broke {
        None => assert_eq!((report.outcomes[0].verdict, found), (Verdict::Held, Vec::new())),
        Some(invariant) => assert!(found.contains(&invariant), "{found:?}"),
    }
    let notes = report.outcomes[0].notes.join("\n");
    assert!(notes.contains("recorded as it is"), "{notes}");
}

#[rstest]
#[case(
    "\"accumulation\":2",
    "\"accumulation\":0",
    "recorded: plan: train.accumulation: found 0, expected a count"
)]
#[case("\"epochs\":2", "\"epochs\":-1", "invalid value: integer `-1`, expected u64")]
#[case(
    "\"recorded\":{",
    "\"unrecorded\":{",
    "missing field `plan`, or `recorded` for a loop that was told none"
)]
fn a_recording_that_makes_no_sense_is_one_clear_error(
    #[case] right: &str,
    #[case] wrong: &str,
    #[case] says: &str,
) {
    let Some((_folder, trace)) = recorded("right") else {
        return eprintln!("skipped: no python3 of version 3.9 or later");
    };
    let text = std::fs::read_to_string(&trace).unwrap();
    assert!(text.contains(right), "{text}");
    std::fs::write(&trace, text.replacen(right, wrong, 1)).unwrap();
    let catalogue = Catalogue::load(None).unwrap();
    let error = check(&[trace], None, &catalogue, &[]).unwrap_err().to_string();
    assert!(error.contains("run.jsonl:1") && error.contains(says), "{error}");
}
