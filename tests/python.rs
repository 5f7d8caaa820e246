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

/// Traces of scripts that the recorder observed: `python -m torch_tests.keep_traces` in harness/python writes them.
fn golden() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/recorded")
}

fn judged(trace: &Path) -> RunReport {
    let catalogue = Catalogue::load(None).unwrap();
    check(&[trace.to_owned()], None, &catalogue, &[]).unwrap()
}

#[rstest]
fn what_a_right_script_leaves_is_held(#[files("golden/recorded/held/*.jsonl")] trace: PathBuf) {
    let report = judged(&trace);
    let outcome = &report.outcomes[0];
    assert_eq!((outcome.verdict, &outcome.findings), (Verdict::Held, &Vec::new()));
}

#[rstest]
fn what_a_script_with_a_bug_leaves_is_broken_by_its_invariant_first(
    #[files("golden/recorded/broken/*/*/*.jsonl")] trace: PathBuf,
) {
    let rule = trace.parent().unwrap().strip_prefix(golden().join("broken")).unwrap();
    let report = judged(&trace);
    let found: Vec<&str> = report.outcomes[0].findings.iter().map(|it| it.invariant.as_str()).collect();
    assert_eq!(found.first().copied(), rule.to_str(), "{found:?}");
}

#[rstest]
#[case("\"accumulation\":4", "\"accumulation\":0", "train.accumulation: found 0, expected a count")]
#[case("\"samples\":38", "\"samples\":-1", "invalid value: integer `-1`, expected u64")]
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
    let folder = tempfile::tempdir().unwrap();
    let trace = folder.path().join("run.jsonl");
    let text = std::fs::read_to_string(golden().join("held/transformers_trainer.jsonl")).unwrap();
    assert!(text.contains(right), "{text}");
    std::fs::write(&trace, text.replacen(right, wrong, 1)).unwrap();
    let catalogue = Catalogue::load(None).unwrap();
    let error = check(&[trace], None, &catalogue, &[]).unwrap_err().to_string();
    assert!(error.contains("run.jsonl:1") && error.contains(says), "{error}");
}
