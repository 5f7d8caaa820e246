//! A scripted trainer run by the real runner: cuts, deaths and damage, and what they leave.

use std::fs;

use rstest::rstest;
use traintrue_judge::evidence::Declined;

use super::*;
use crate::program::Program;
use crate::scenario::{Corpus, Scenario, expand};

/// It writes a run line, one checkpoint and an end. It counts five file operations, can die before one of them, and leaves a
/// file for each that it made.
const TRAINER: &str = r#"
import json, os, sys
plan = json.load(sys.stdin)
contract = dict(tail="flush", normaliser="tokens", gradients="mean", first_lr="zero", rows_per_sample=1, deterministic=True)
def say(**event): print(json.dumps(event), flush=True)
say(event="run", schema=1, trainer="fake 1", device="none", scenario=plan["scenario"], run=plan["run"], plan=plan, contract=contract)
die = int(os.environ.get("TRAINTRUE_DIE_BEFORE_OPERATION", 0))
folder = (plan["stop"] or {}).get("save") or plan["save_to"]
if folder:
    for operation in range(1, 6):
        if operation == die:
            os._exit(86)
        with open(os.path.join(folder, "file%d" % operation), "ab") as file: file.write(b"x" * 16)
    say(event="checkpoint", edge="saved", step=1, epoch=0, micro_batches=2, path=folder, operations=5)
say(event="end", reason="stopped" if plan["stop"] else "done")
"#;

const SCENARIO: &str = r#"
schema = 1
id = "example"
title = "t"
class = "c"
bug = "b"
cost = "c"
[plan]
seed = 1
model = { size = "tiny" }
[plan.data]
samples = 6
piece_bytes = 16
batch = 2
epochs = 1
shuffle = false
padding = { policy = "longest", side = "right", multiple_of = 1 }
max_length = 32
[plan.train]
accumulation = 2
optimizer = { name = "adamw", lr = 1e-3, betas = [0.9, 0.999], eps = 1e-8, decay = 0.0 }
schedule = { name = "constant", warmup = 0 }
"#;

struct Silent;

impl Observer for Silent {
    fn see(&self, _: Happening<'_>) {}
}

struct Ground {
    folder: tempfile::TempDir,
    evidence: Evidence,
}

fn ground(runs: &str, trainer: &str, capabilities: &[Capability]) -> Ground {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("trainer.py");
    fs::write(&script, trainer).unwrap();
    let scenario = Scenario::parse(Path::new("example.toml"), &format!("{SCENARIO}\n{runs}")).unwrap();
    let expansion =
        expand(&scenario, &Corpus::shipped().unwrap(), &folder.path().join("checkpoints")).unwrap();
    let runner = Runner {
        program: &Program::parse(&format!("python3 '{}'", script.display())).unwrap(),
        capabilities,
        timeout: Duration::from_secs(20),
        observer: &Silent,
    };
    let evidence = runner.run(&scenario.id, &expansion.runs, &folder.path().join("traces")).unwrap();
    Ground { folder, evidence }
}

impl Ground {
    fn names(&self) -> Vec<&str> {
        self.evidence.runs.iter().map(|run| run.evidence.name.as_str()).collect()
    }

    fn files(&self, run: &str) -> Vec<String> {
        let entries = fs::read_dir(self.folder.path().join("checkpoints").join(run)).unwrap();
        let mut files: Vec<String> =
            entries.map(|entry| entry.unwrap().file_name().into_string().unwrap()).collect();
        files.sort();
        files
    }
}

#[test]
fn a_cut_run_is_two_processes_and_each_leaves_a_trace() {
    let ground = ground(
        "[[runs]]\nname = \"whole\"\n[[runs]]\nname = \"cut-{}\"\neach_cut_after = { epoch = 0, micro_batches = [1, 2] }",
        TRAINER,
        &[],
    );
    assert_eq!(ground.names(), ["whole", "cut-1", "cut-2"]);
    let mut traces: Vec<String> = Vec::new();
    for run in &ground.evidence.runs {
        assert!(run.as_meant());
        let names =
            run.evidence.segments.iter().map(|it| it.file_name().unwrap().to_string_lossy().into_owned());
        traces.extend(names);
    }
    assert_eq!(traces, ["whole.jsonl", "cut-1.1.jsonl", "cut-1.2.jsonl", "cut-2.1.jsonl", "cut-2.2.jsonl"]);
}

const DEATHS: &str =
    "[[runs]]\nname = \"dies\"\nwith = { save_every = 1 }\ncuts = [{ epoch = 0, micro_batches = 1 }]\n";

#[test]
fn a_process_dies_before_each_operation_in_turn_and_the_next_begins_from_what_it_left() {
    let ground = ground(
        &format!("{DEATHS}deaths = {{ how = \"before-each-operation\" }}"),
        TRAINER,
        &[Capability::FileFaults],
    );
    assert_eq!(ground.names(), ["dies-001", "dies-002", "dies-003", "dies-004", "dies-005"]);
    for run in &ground.evidence.runs {
        let died: Vec<bool> = run.endings.iter().map(|ending| ending.died).collect();
        assert_eq!(died, [false, true, false]);
        assert!(run.as_meant());
    }
    let size = |run: &str, file: &str| {
        fs::metadata(ground.folder.path().join("checkpoints").join(run).join(file)).unwrap().len()
    };
    assert_eq!(ground.files("dies-003").len(), 5);
    assert_eq!((size("dies-003", "file2"), size("dies-003", "file3")), (48, 32));
}

#[test]
fn a_trainer_that_cannot_die_at_a_file_operation_is_not_judged() {
    let runs = format!("{DEATHS}deaths = {{ how = \"power-cut\" }}");
    let ground = ground(&runs, TRAINER, &[]);
    assert_eq!(
        (ground.names(), ground.evidence.unjudged.as_slice()),
        (vec![], ["no file-faults".to_owned()].as_slice())
    );
}

#[test]
fn a_trainer_that_should_have_died_and_lives_did_not_do_what_it_was_meant_to() {
    let immortal = TRAINER.replace("os._exit(86)", "pass");
    let ground =
        ground(&format!("{DEATHS}deaths = {{ how = \"power-cut\" }}"), &immortal, &[Capability::FileFaults]);
    assert!(ground.evidence.runs.iter().all(|run| !run.as_meant() && run.endings.len() == 2));
}

#[test]
fn processes_are_killed_at_moments_spread_over_their_life() {
    let slow = TRAINER
        .replace("for operation", "import time\n    for operation")
        .replace("if operation == die", "time.sleep(0.05)\n        if operation == die");
    let ground = ground(&format!("{DEATHS}deaths = {{ how = \"killed\", count = 3 }}"), &slow, &[]);
    assert_eq!(ground.names(), ["dies-001", "dies-002", "dies-003"]);
    assert!(ground.evidence.runs.iter().all(RunRecord::as_meant));
    assert!(ground.evidence.runs.iter().any(|run| run.endings[1].died));
}

#[test]
fn the_newest_checkpoint_is_damaged_before_the_last_segment() {
    let runs = "[[runs]]\nname = \"damaged\"\ncuts = [{ epoch = 0, micro_batches = 1 }]\ndamage = { file = \"file3\", how = \"truncate\" }";
    let ground = ground(runs, TRAINER, &[]);
    let file = ground.folder.path().join("checkpoints/damaged/file3");
    assert_eq!(fs::metadata(file).unwrap().len(), 8);
    assert!(ground.evidence.unjudged.is_empty());
}

#[test]
fn a_run_stops_at_the_first_process_that_fails() {
    let failing = TRAINER.replace("say(event=\"end\"", "sys.exit(5)\nsay(event=\"end\"");
    let ground = ground("[[runs]]\nname = \"cut\"\ncuts = [{ epoch = 0, micro_batches = 1 }]", &failing, &[]);
    assert_eq!(ground.evidence.runs[0].endings.len(), 1);
    assert!(!ground.evidence.runs[0].as_meant());
}

#[rstest]
#[case::in_its_only_process("whole", 1)]
#[case::in_the_second_of_two("cut", 2)]
fn a_run_that_the_trainer_declines_is_not_judged_and_the_others_are(
    #[case] run: &str,
    #[case] process: usize,
) {
    let declines =
        format!("plan[\"run\"] == \"{run}\" and (1 if plan[\"start\"] is None else 2) == {process}");
    let declining = TRAINER.replace(
        "die = int",
        &format!("if {declines}:\n    say(event=\"end\", reason=\"declined\", message=\"no adapters\")\n    sys.exit()\ndie = int"),
    );
    let runs =
        "[[runs]]\nname = \"whole\"\n[[runs]]\nname = \"cut\"\ncuts = [{ epoch = 0, micro_batches = 1 }]";
    let ground = ground(runs, &declining, &[]);
    let other = if run == "cut" { "whole" } else { "cut" };
    assert_eq!(ground.names(), [other]);
    let declined = Declined { run: run.to_owned(), reason: "no adapters".to_owned() };
    assert_eq!(ground.evidence.declined, [declined]);
}

#[test]
fn a_process_that_declines_before_a_death_is_not_judged() {
    let declining = TRAINER.replace(
        "die = int",
        "say(event=\"end\", reason=\"declined\", message=\"no adapters\")\nsys.exit()\ndie = int",
    );
    let runs = format!("{DEATHS}deaths = {{ how = \"killed\", count = 3 }}");
    let ground = ground(&runs, &declining, &[]);
    assert_eq!((ground.names().len(), ground.evidence.declined.len()), (0, 1));
}

/// Two ranks: the first waits until the second has left a file, and then says so.
const MEETING: &str = r#"
import json, os, sys, time
plan = json.load(sys.stdin)
contract = dict(tail="flush", normaliser="tokens", gradients="mean", first_lr="zero", rows_per_sample=1, deterministic=True)
def say(**event): print(json.dumps(event), flush=True)
say(event="run", schema=1, trainer="fake 1", device="none", scenario=plan["scenario"], run=plan["run"], plan=plan, contract=contract)
rank, world = int(os.environ["RANK"]), int(os.environ["WORLD_SIZE"])
assert (rank, world) == (plan["train"]["rank"], plan["train"]["world"]) and os.environ["MASTER_ADDR"] == "127.0.0.1"
here = os.path.join(os.path.dirname(os.path.abspath(__file__)), os.environ["MASTER_PORT"])
if rank == 1:
    FAILS
    open(here, "w").close()
while not os.path.exists(here): time.sleep(0.01)
say(event="end", reason="done")
"#;

const TWO_RANKS: &str =
    "[[runs]]\nname = \"alone\"\n[[runs]]\nname = \"two\"\nwith = { train = { world = 2, together = true } }";

#[test]
fn the_ranks_of_a_run_are_processes_that_live_at_once_and_each_leaves_a_trace() {
    let alone = "os.environ.setdefault(\"RANK\", \"1\"); os.environ.setdefault(\"WORLD_SIZE\", \"1\")";
    let both = MEETING
        .replace("FAILS", "pass")
        .replace(
            "rank, world = ",
            &format!("{alone}\nos.environ.setdefault(\"MASTER_PORT\", \"0\")\nrank, world = "),
        )
        .replace("assert (rank", "assert \"MASTER_ADDR\" not in os.environ or (rank");
    let ground = ground(TWO_RANKS, &both, &[]);
    assert_eq!(ground.names(), ["alone", "two.rank-0", "two.rank-1"]);
    assert!(ground.evidence.runs.iter().all(RunRecord::as_meant), "{:#?}", ground.evidence.runs);
}

#[test]
fn a_rank_that_fails_ends_the_one_that_waits_for_it() {
    let ground = ground(
        &TWO_RANKS.replace("[[runs]]\nname = \"alone\"\n", ""),
        &MEETING.replace("FAILS", "sys.exit(\"no memory on rank 1\")"),
        &[],
    );
    let [first, second] = ground.evidence.runs.as_slice() else { panic!("two ranks") };
    assert_eq!(first.endings[0].ending, Ending::LeftAlone);
    let Ending::Failed { complaint, .. } = &second.endings[0].ending else { panic!("it failed") };
    assert_eq!(complaint, "no memory on rank 1");
}
