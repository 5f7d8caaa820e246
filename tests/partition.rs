//! A run in parts, on as many machines as there are parts, is the run.

use rstest::rstest;
use serde_json::Value;
use tempfile::TempDir;

use crate::binary::traintrue;

const SCENARIOS: [&str; 4] = ["data-as-planned", "determinism", "evaluation", "loss"];

/// A report without what no two runs have alike.
fn timeless(text: &str) -> Value {
    let mut report: Value = serde_json::from_str(text).unwrap();
    for outcome in report["outcomes"].as_array_mut().unwrap() {
        outcome["seconds"] = Value::Null;
    }
    report
}

fn run(verb: &str, filters: &[&str], rest: &[&str]) -> String {
    traintrue(&[&[verb], filters, rest].concat()).stdout
}

#[rstest]
#[case::two(2)]
#[case::more_parts_than_scenarios(6)]
fn parts_merged_equal_the_whole(#[case] parts: usize) {
    let whole = run("run", &SCENARIOS, &["--format", "json"]);
    let folder = TempDir::new().unwrap();
    let parts: Vec<String> = (1..=parts)
        .map(|number| {
            let report = folder.path().join(number.to_string()).display().to_string();
            let part = format!("slice:{number}/{parts}");
            run("run", &SCENARIOS, &["--partition", &part, "--report", &report]);
            report
        })
        .collect();
    // In any order.
    let folders: Vec<&str> = parts.iter().rev().map(String::as_str).collect();
    let merged = traintrue(&[&["merge"], folders.as_slice(), &["--format", "json"]].concat()).with_exit(0);
    assert_eq!(timeless(&merged.stdout), timeless(&whole));

    let missing = traintrue(&["merge", folders[0]]).with_exit(2);
    assert!(missing.stderr.contains("is not among the parts, or more than once"), "{}", missing.stderr);
}

#[test]
fn the_rows_of_a_matrix_in_parts_are_the_rows_of_the_matrix() {
    let filters = ["evaluation-is-pure", "checkpoint-is-pure"];
    let few = ["--random-plans", "0", "--format", "json"];
    let rows = |text: &str| -> Vec<String> {
        let report: Value = serde_json::from_str(text).unwrap();
        let mut rows: Vec<String> =
            report["faults"].as_array().unwrap().iter().map(Value::to_string).collect();
        rows.sort();
        rows
    };
    let whole = run("faults", &filters, &few);
    let folder = TempDir::new().unwrap();
    let parts = ["1", "2"].map(|number| {
        let report = folder.path().join(number).display().to_string();
        let part = format!("slice:{number}/2");
        run("faults", &filters, &[few.as_slice(), &["--partition", &part, "--report", &report]].concat());
        report
    });
    let merged = run("merge", &[&parts[0], &parts[1]], &["--format", "json"]);
    assert_eq!(rows(&merged), rows(&whole));
    assert!(rows(&whole).len() >= 5, "{whole}");
}

#[rstest]
#[case("slice:0/2")]
#[case("slice:3/2")]
#[case("2/2")]
fn a_part_that_there_is_not_is_refused(#[case] part: &str) {
    let refused = traintrue(&["run", "determinism", "--partition", part]).with_exit(2);
    assert!(refused.stderr.contains("expected slice:NUMBER/OF, as slice:2/3"), "{}", refused.stderr);
}
