//! The scripts in `ci/` through the real binary, as far as a machine without a GPU goes.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use rstest::rstest;

use crate::inputs::{double, scenarios_of_the_double};

const ROOT: &str = env!("CARGO_MANIFEST_DIR");

#[test]
fn without_its_gpu_the_nightly_job_says_so_and_is_not_judged() {
    let folder = tempfile::tempdir().unwrap();
    let page = folder.path().join("page.md");
    // No machine has that many.
    let output = Command::new("ci/nightly-gpu")
        .args([env!("CARGO_BIN_EXE_traintrue"), folder.path().to_str().unwrap(), "cuda:999"])
        .env("GITHUB_STEP_SUMMARY", &page)
        .current_dir(ROOT)
        .output()
        .unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    assert_eq!(output.status.code(), Some(3), "{said}");
    assert!(said.starts_with("nightly-gpu: nothing was run on cuda:999: "), "{said}");
    assert!(said.contains("cuda:999 is not available: "), "{said}");
    assert_eq!(fs::read_to_string(page).unwrap(), said);
    assert!(!folder.path().join("traces").exists());
}

#[rstest]
#[case("check.yml", ".ci/run")]
#[case("weekly.yml", "ci/${{ matrix.script }}")]
#[case("nightly-gpu.yml", "ci/nightly-gpu bin/traintrue out")]
#[case("nightly-gpu.yml", "ci/nightly-gpu \"\" out wgpu:0 flat-memory-1000-steps")]
#[case("device.yml", "ci/device")]
#[case("wheels.yml", "ci/wheel")]
fn a_workflow_calls_the_script_that_people_run(#[case] workflow: &str, #[case] call: &str) {
    let text = fs::read_to_string(Path::new(ROOT).join(".github/workflows").join(workflow)).unwrap();
    assert!(text.lines().any(|line| line.contains(call) && !line.trim_start().starts_with('#')), "{text}");
}

#[test]
fn the_weekly_workflow_runs_every_script_that_no_other_runs() {
    let text = fs::read_to_string(Path::new(ROOT).join(".github/workflows/weekly.yml")).unwrap();
    let scripts =
        text.lines().find_map(|line| line.trim().strip_prefix("script: [")?.strip_suffix(']')).unwrap();
    let weekly: BTreeSet<&str> = scripts.split(", ").collect();
    assert_eq!(weekly, BTreeSet::from(["goldens", "python", "trainers"]));
    assert!(weekly.iter().all(|script| Path::new(ROOT).join("ci").join(script).is_file()));
}

#[rstest]
#[case::held("", 0, true)]
#[case::broken("moments-not-restored", 1, true)]
#[case::cannot_be_asked("no-description", 2, false)]
fn a_job_has_the_report_of_its_own_run_and_the_exit_status(
    #[case] bug: &str,
    #[case] exit: i32,
    #[case] reported: bool,
) {
    let folder = tempfile::tempdir().unwrap();
    let (page, report) = (folder.path().join("page.md"), folder.path().join("report"));
    fs::create_dir(&report).unwrap();
    fs::write(report.join("summary.md"), "an older run").unwrap();
    let (trainer, scenarios) = (double(bug), scenarios_of_the_double());
    let status = Command::new("ci/judge")
        .arg(&report)
        .args(["two-parameters", "--trainer", &trainer, "--scenarios", &scenarios])
        .env("TRAINTRUE", env!("CARGO_BIN_EXE_traintrue"))
        .env("GITHUB_STEP_SUMMARY", &page)
        .current_dir(ROOT)
        .output()
        .unwrap()
        .status;
    assert_eq!(status.code(), Some(exit));
    assert_eq!(page.exists(), reported);
    for name in ["summary.md", "results.sarif", "junit.xml", "report.json", "report.html"] {
        assert_eq!(report.join(name).exists(), reported, "{name}");
    }
    if reported {
        let page = fs::read_to_string(page).unwrap();
        assert!(page.starts_with("# traintrue: ") && page.contains("| two-parameters |"), "{page}");
    }
}
