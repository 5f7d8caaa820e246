//! `traintrue gate` through the real binary: exit codes, documents and bad input.

use std::fmt::Write as _;
use std::fs;
use std::path::PathBuf;

use rstest::rstest;
use serde_json::Value;

use crate::binary::{Ran, traintrue};

/// A CSV of a lane that holds 1 GiB and grows by so many bytes a step.
fn series(steps: u32, growth: u32) -> (tempfile::TempDir, PathBuf) {
    let mut text = "step,rss_bytes\n".to_owned();
    for step in 0..steps {
        let _ = writeln!(text, "{step},{}", (1_u64 << 30) + u64::from(step) * u64::from(growth));
    }
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("memory.csv");
    fs::write(&path, text).unwrap();
    (folder, path)
}

fn gate(path: &std::path::Path, arguments: &[&str]) -> Ran {
    traintrue(&[&["gate", path.to_str().unwrap()], arguments].concat())
}

#[rstest]
#[case::within(1000, 0, 0)]
#[case::growth_that_is_allowed(1000, 30_000, 0)]
#[case::exceeds(1000, 200_000, 1)]
#[case::too_short(10, 200_000, 3)]
#[case::one_row(1, 0, 3)]
#[case::no_row(0, 0, 2)]
fn the_exit_status_is_the_verdict(#[case] steps: u32, #[case] growth: u32, #[case] status: i32) {
    let (_folder, path) = series(steps, growth);
    gate(&path, &["--max-slope", "64KiB/step"]).with_exit(status);
}

#[test]
fn a_lane_that_was_sampled_once_keeps_no_other_from_being_judged() {
    let (_folder, path) = series(1000, 200_000);
    let rows = fs::read_to_string(&path).unwrap().replace('\n', ",\n");
    fs::write(&path, rows.replacen(",\n", ",gpu\n", 1).replacen(",\n", ",7\n", 1)).unwrap();
    let document: Value =
        gate(&path, &["--max-slope", "64KiB/step", "--format", "json"]).with_exit(1).document();
    let verdicts = [0, 1].map(|lane: usize| document["series"][lane]["verdict"].as_str());
    assert_eq!(verdicts, [Some("exceeds"), Some("not-judged")]);
    assert_eq!(document["series"][1]["reason"], "a slope needs 24 points, and there are 1");
}

#[test]
fn the_document_says_what_grows_and_when_the_memory_is_full() {
    let (_folder, path) = series(1000, 200_000);
    let arguments = ["--max-slope", "64KiB/step", "--capacity", "2GiB", "--format", "json"];
    let document: Value = gate(&path, &arguments).with_exit(1).document();
    let lane = &document["series"][0];
    assert_eq!((&lane["lane"], &lane["verdict"]), (&"rss_bytes".into(), &"exceeds".into()));
    let free = (1_u64 << 30) - 999 * 200_000;
    assert_eq!(
        lane["steps_to_exhaustion"].as_u64().map(|steps| steps.abs_diff(free / 200_000) <= 1),
        Some(true)
    );
}

#[rstest]
#[case::no_unit(&["--max-slope", "65536/step"], "has no unit")]
#[case::not_a_step(&["--max-slope", "64KiB"], "an amount per step")]
#[case::nothing(&[], "--max-slope")]
#[case::both(&["--max-slope", "1B/step", "--limits", "x.toml"], "cannot be used with")]
#[case::no_limits(&["--limits", "nowhere.toml"], "nowhere.toml: cannot read the limits")]
#[case::no_lane(&["--max-slope", "1B/step", "--lane", "gpu"], "no lane \"gpu\"; it has rss_bytes")]
#[case::capacity(&["--max-slope", "1B/step", "--capacity", "72"], "has no unit")]
fn what_cannot_be_asked_is_exit_2_and_says_why(#[case] arguments: &[&str], #[case] why: &str) {
    let (_folder, path) = series(100, 0);
    let ran = gate(&path, arguments).with_exit(2);
    assert!(ran.stderr.contains(why), "{ran:?}");
}

#[test]
fn ten_million_rows_are_read_and_judged() {
    let (_folder, path) = series(10_000_000, 1);
    gate(&path, &["--max-slope", "1KiB/step"]).with_exit(0);
}
