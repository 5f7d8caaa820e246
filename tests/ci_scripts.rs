//! The scripts in `ci/` through the real binary, as far as a machine without a GPU goes.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;
use std::process::Command;

use rstest::rstest;
use serde::Deserialize;
use sha2::{Digest, Sha256};

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

/// What a device's nightly job leaves to be kept, by [`golden/device`](../golden/device).
#[derive(Deserialize)]
struct Receipt {
    commit: String,
    sha256: BTreeMap<String, String>,
}

fn git(arguments: &[&str]) -> Option<String> {
    let output = Command::new("git").args(arguments).current_dir(ROOT).output().ok()?;
    output.status.success().then(|| String::from_utf8(output.stdout).unwrap().trim().to_owned())
}

#[test]
fn every_receipt_is_of_the_files_beside_it_and_of_a_commit_of_this_history() {
    let folders: Vec<_> = fs::read_dir(Path::new(ROOT).join("golden/device")).unwrap().flatten().collect();
    assert!(!folders.is_empty());
    for folder in folders {
        let folder = folder.path();
        let text = fs::read_to_string(folder.join("receipt.json")).unwrap();
        let receipt: Receipt = serde_json::from_str(&text).unwrap_or_else(|error| panic!("{error}: {text}"));
        let whole = receipt.commit.len() == 40 && receipt.commit.bytes().all(|byte| byte.is_ascii_hexdigit());
        assert!(whole, "a tree with changes: {}", receipt.commit);
        // A clone without history does not know the commit.
        if git(&["cat-file", "-e", &receipt.commit]).is_some() {
            assert!(git(&["merge-base", "--is-ancestor", &receipt.commit, "HEAD"]).is_some(), "{text}");
        }
        for (name, digest) in &receipt.sha256 {
            let found = Sha256::digest(fs::read(folder.join(name)).unwrap());
            let found: String = found.iter().map(|byte| format!("{byte:02x}")).collect();
            assert_eq!(&found, digest, "{name} is not the file that was written");
        }
    }
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
