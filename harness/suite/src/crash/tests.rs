//! Small trainers that save in one right way and several wrong ones, killed at every operation; and the model of power loss.

use std::path::{Path, PathBuf};
use std::process::Command;

use super::observe::Step;
use super::operation::{Kind, Operation};
use super::saves::{Names, Save, saves};
use super::tree::{Store, Tree};
use super::*;
use traintrue_protocol::exit::Exit;

const TRAINER: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/src/crash/trainer.py");

/// The report on the trainer that saves in this way; `None` where this machine cannot show it.
fn report(way: &str, sample: Option<usize>) -> Option<CrashReport> {
    report_with(way, sample, None)
}

fn report_with(way: &str, sample: Option<usize>, repro: Option<PathBuf>) -> Option<CrashReport> {
    let work = tempfile::tempdir().unwrap();
    let Some(python) = python() else {
        println!("skipped: no python3 here");
        return None;
    };
    // -I and -S: it imports little, and starts faster.
    let command: Vec<OsString> = [&python, "-IS", TRAINER, "{out}", way].map(Into::into).into();
    let resume = [&command[..], &["--resume".into()]].concat();
    let request = Request { command, resume, sample, work: work.path().to_owned(), repro };
    match crash(&request, &mut |_, _| {}) {
        Ok(report) => Some(report),
        Err(CrashError::NotPermitted(why)) => {
            println!("skipped: ptrace is not permitted here: {why}");
            None
        }
        Err(error) => panic!("{error}"),
    }
}

/// The interpreter itself: what is first on the path may be a script that starts it, slowly.
fn python() -> Option<String> {
    let asked = Command::new("python3").args(["-c", "import sys; print(sys.executable)"]).output().ok()?;
    Some(String::from_utf8(asked.stdout).ok()?.trim().to_owned())
}

/// How the run ended and before what, of the points with this verdict.
fn points(report: &CrashReport, verdict: Verdict) -> Vec<(Left, &str)> {
    report.points.iter().filter(|it| it.verdict == verdict).map(|it| (it.left, it.before.as_str())).collect()
}

#[test]
fn a_save_that_is_atomic_and_synced_is_exact_at_every_point() {
    let Some(report) = report("atomic", None) else { return };
    assert_eq!(report.count(Verdict::Exact), report.points.len(), "{}", report.text());
    assert_eq!((report.saves, report.exit()), (3, Exit::Held));
    assert!(report.points.iter().any(|it| it.left == Left::Unsynced));
    let [log] = &report.left_out[..] else { panic!("{:?}", report.left_out) };
    assert_eq!(log.path, Path::new("log.txt"));
}

#[test]
fn a_checkpoint_written_in_place_is_lost_when_it_is_torn() {
    let Some(report) = report("in-place", None) else { return };
    let refused = points(&report, Verdict::Refuses);
    assert!(refused.contains(&(Left::Torn, "write last.json")), "{}", report.text());
    assert!(refused.contains(&(Left::Killed, "write last.json")), "the file is empty: {}", report.text());
    assert_eq!(report.exit(), Exit::Broken);
}

#[test]
fn a_rename_of_data_that_was_not_synced_fails_only_when_power_is_lost() {
    let Some(report) = report("rename-unsynced", None) else { return };
    assert!(report.count(Verdict::Refuses) > 0, "{}", report.text());
    let broken = report.points.iter().filter(|it| it.verdict.is_broken());
    assert!(broken.clone().all(|it| it.left == Left::Unsynced), "{}", report.text());
}

#[test]
fn an_old_checkpoint_that_goes_before_the_new_one_is_there_leaves_nothing_to_resume() {
    let Some(report) = report("delete-first", None) else { return };
    let refused = points(&report, Verdict::Refuses);
    assert!(refused.contains(&(Left::Killed, "create last.json.tmp")), "{}", report.text());
    assert!(!refused.contains(&(Left::Killed, "unlink last.json")), "{}", report.text());
}

#[test]
fn a_fresh_start_in_place_of_a_damaged_checkpoint_is_lost_work() {
    let Some(report) = report("fresh-start", Some(8)) else { return };
    let lost = points(&report, Verdict::LostWork);
    assert!(lost.contains(&(Left::Torn, "write last.json")), "{}", report.text());
    assert_eq!(report.count(Verdict::Refuses) + report.count(Verdict::Different), 0, "{}", report.text());
}

#[test]
fn a_script_shows_the_worst_finding_without_traintrue() {
    let folder = tempfile::tempdir().unwrap();
    let Some(report) = report_with("in-place", Some(6), Some(folder.path().to_owned())) else { return };
    let shown = Command::new("sh").arg(folder.path().join("repro.sh")).output().unwrap();
    let said = String::from_utf8_lossy(&shown.stdout);
    assert!(said.contains("the resume ends with exit status 1"), "{said}");
    let issue = std::fs::read_to_string(folder.path().join("ISSUE.md")).unwrap();
    assert!(issue.contains(&report.worst().unwrap().before), "{issue}");
}

#[test]
fn a_process_that_left_the_group_is_ended_with_the_command() {
    let work = tempfile::tempdir().unwrap();
    let script = "touch {out}/a; setsid sleep 600 & exit 0";
    let command: Vec<OsString> = ["sh", "-c", script].map(Into::into).into();
    let request =
        Request { resume: command.clone(), command, sample: None, work: work.path().to_owned(), repro: None };
    // It does not wait for the sleep, and finds that nothing is resumed.
    match crash(&request, &mut |_, _| {}) {
        Err(CrashError::NothingRead { .. } | CrashError::NotPermitted(_)) => {}
        other => panic!("{other:?}"),
    }
}

fn step(kind: Kind, path: &str, to: Option<&str>) -> Step {
    let operation = Operation { kind, path: path.into(), to: to.map(PathBuf::from), write_through: false };
    Step { operation, before: Tree::default() }
}

#[test]
fn saves_are_told_apart_by_the_number_in_their_path_and_shards_in_a_folder_are_not() {
    let mut steps = Vec::new();
    for checkpoint in ["checkpoint-2", "checkpoint-4"] {
        steps.push(step(Kind::MakeFolder, checkpoint, None));
        for shard in ["model-1.bin", "model-2.bin"] {
            steps.push(step(Kind::Create, &format!("{checkpoint}/{shard}"), None));
        }
        steps.push(step(Kind::Create, "log.txt", None));
    }
    let read = ["checkpoint-#/model-1.bin".into()].into();
    let found = saves(&steps, &Names::of(&steps), &read);
    assert_eq!(found, [Save { start: 0, end: 4 }, Save { start: 4, end: 8 }]);
}

#[test]
fn power_loss_keeps_what_was_synced_and_empties_what_was_only_renamed() {
    let folder = tempfile::tempdir().unwrap();
    let (root, mut store) = (folder.path().join("out"), Store::new(folder.path().join("contents")).unwrap());
    std::fs::create_dir(&root).unwrap();
    let mut steps = Vec::new();
    let mut then = |store: &mut Store, kind, path, to| {
        let before = store.read(&root).unwrap();
        steps.push(Step { before, ..step(kind, path, to) });
    };
    for (name, synced) in [("synced", true), ("lost", false)] {
        then(&mut store, Kind::Create, "part", None);
        std::fs::write(root.join("part"), "").unwrap();
        then(&mut store, Kind::Write, "part", None);
        std::fs::write(root.join("part"), "data").unwrap();
        if synced {
            then(&mut store, Kind::Sync, "part", None);
        }
        then(&mut store, Kind::Rename, "part", Some(name));
        std::fs::rename(root.join("part"), root.join(name)).unwrap();
    }
    then(&mut store, Kind::SyncAll, "/", None);
    let left = unsynced::lose(&steps, 0, steps.len() - 1, &mut store).unwrap();
    let bytes = |name: &str| store.bytes(left.content(Path::new(name)).unwrap()).unwrap();
    assert_eq!((bytes("synced").as_slice(), bytes("lost").as_slice()), (&b"data"[..], &b""[..]));
}
