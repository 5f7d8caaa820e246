//! Interrupted at any time and in any way, a run leaves no process and no folder behind, and says how far it came.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use rstest::rstest;
use rustix::process::{Pid, Signal, kill_process};
use traintrue_judge::verdict::{RunReport, Verdict};

/// Long enough for a busy machine.
const PATIENCE: Duration = Duration::from_secs(60);

/// A trainer that trains `determinism` as ours does, and in any other scenario starts two children, one of them in a
/// session of its own, and is quiet.
const QUIET: &str = r#"#!/bin/sh
if [ "$1" = describe ]; then exec "$TRAINTRUE" describe; fi
plan=$(cat)
case $plan in
  *'"scenario":"determinism"'*) echo "$plan" | exec "$TRAINTRUE" train ;;
esac
sleep 600 &
setsid sleep 601 &
sleep 602
"#;

/// Polls until it is so.
fn until(what: &str, is: impl Fn() -> bool) {
    let begun = Instant::now();
    while !is() {
        assert!(begun.elapsed() < PATIENCE, "{what}: not within {PATIENCE:?}");
        sleep(Duration::from_millis(50));
    }
}

/// The processes that have this in their environment.
fn marked(mark: &str) -> usize {
    let environments = fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| fs::read(entry.path().join("environ")).ok());
    environments.filter(|it| it.split(|byte| *byte == 0).any(|variable| variable == mark.as_bytes())).count()
}

fn entries(folder: &Path) -> Vec<String> {
    let names =
        fs::read_dir(folder).unwrap().flatten().map(|entry| entry.file_name().to_string_lossy().into_owned());
    names.collect()
}

#[rstest]
#[case::by_ctrl_c(Signal::INT)]
#[case::by_sigterm(Signal::TERM)]
#[case::by_sigkill(Signal::KILL)]
fn a_run_leaves_nothing_behind(#[case] signal: Signal) {
    let folder = tempfile::tempdir().unwrap();
    let [temporary, report] = ["tmp", "report"].map(|it| folder.path().join(it));
    fs::create_dir(&temporary).unwrap();
    let script = folder.path().join("trainer.sh");
    fs::write(&script, QUIET).unwrap();
    let mark = format!("TRAINTRUE_TEST={}", folder.path().display());
    let mut run = Command::new(env!("CARGO_BIN_EXE_traintrue"))
        .args(["run", "determinism", "scheduler-steps", "--jobs", "2", "--trainer"])
        .arg(format!("sh {}", script.display()))
        .arg("--report")
        .arg(&report)
        .env("TRAINTRUE_TEST", folder.path())
        .env("TRAINTRUE", env!("CARGO_BIN_EXE_traintrue"))
        .env("TMPDIR", &temporary)
        .stdout(Stdio::null())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    // Two quiet runs are three processes and their shell each, beside the command and what stands by.
    until("the trainers start", || marked(&mark) >= 8);
    let is_judged = || entries(&report.join("traces")).contains(&"determinism".to_owned());
    until("the short scenario runs", || report.join("traces").exists() && is_judged());
    let command = Pid::from_raw(run.id().try_into().unwrap()).unwrap();
    kill_process(command, signal).unwrap();
    let ended = run.wait().unwrap();
    let number = signal.as_raw();
    assert_eq!(ended.signal(), Some(number), "{ended}");
    until("every process ends", || marked(&mark) == 0);
    assert_eq!(entries(&temporary), Vec::<String>::new());
    if signal != Signal::KILL {
        let mut said = String::new();
        std::io::Read::read_to_string(&mut run.stderr.unwrap(), &mut said).unwrap();
        assert!(said.contains(&format!("interrupted by signal {number}:")), "{said}");
        let kept: RunReport = serde_json::from_slice(&fs::read(report.join("report.json")).unwrap()).unwrap();
        let quiet = kept.outcomes.iter().find(|it| it.scenario == "scheduler-steps").unwrap();
        assert_eq!((quiet.verdict, quiet.reason.as_deref()), (Verdict::NotJudged, Some("interrupted")));
    }
}

#[test]
fn two_runs_do_not_write_one_report() {
    let folder = tempfile::tempdir().unwrap();
    let lock = fs::File::create(folder.path().join(".lock")).unwrap();
    lock.lock().unwrap();
    let to = folder.path().to_str().unwrap();
    let ran = crate::binary::traintrue(&["run", "determinism", "--report", to]).with_exit(2);
    assert!(ran.stderr.contains("another traintrue writes its report into this folder"), "{}", ran.stderr);
    assert!(!folder.path().join("report.json").exists());
    drop(lock);
    crate::binary::traintrue(&["run", "determinism", "--report", to]).with_exit(0);
}
