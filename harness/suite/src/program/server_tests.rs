//! A trainer that serves: its forks end, fail, hang and are killed as processes of their own do.

use std::path::PathBuf;
use std::time::{Duration, Instant};

use rstest::rstest;
use traintrue_protocol::plan::{Plan, example};

use super::*;

/// A trainer in Python: `does` is what a run does after it has written a line. It counts its runs in a global.
fn served(does: &str) -> Fake {
    let folder = tempfile::tempdir().unwrap();
    let script = folder.path().join("trainer.py");
    let package = Path::new(env!("CARGO_MANIFEST_DIR")).join("../python");
    let text = format!(
        "import os, subprocess, sys, time\nsys.path.insert(0, {package:?})\n\
         from traintrue.adapters.protocol import answer\nruns = 0\n\
         def run(plan, writer):\n    global runs\n    runs += 1\n    \
         writer.event('run', runs=runs, parent=os.getppid(), path=os.environ.get('TOLD', ''), run=plan['run'])\n    {does}\n\
         raise SystemExit(answer(sys.argv[-1], {{'trainer': 'fake', 'contract': {{}}}}, run))\n"
    );
    std::fs::write(&script, text).unwrap();
    let program = Program::parse(&format!("python3 '{}'", script.display())).unwrap().serving();
    Fake { folder, program }
}

struct Fake {
    folder: TempDir,
    program: Program,
}

impl Fake {
    fn run(&self, plan: &Plan, timeout: f64, kill_after: Option<f64>) -> (Ending, Vec<serde_json::Value>) {
        let trace = self.folder.path().join(format!("{}.jsonl", plan.run));
        let errand = Errand {
            plan,
            environment: vec![("TOLD", "17".to_owned())],
            trace: &trace,
            complaints: &trace.with_extension("stderr"),
            timeout: Duration::from_secs_f64(timeout),
            kill_after: kill_after.map(Duration::from_secs_f64),
            given_up: None,
        };
        let ended = self.program.run(&errand).unwrap();
        let text = std::fs::read_to_string(trace).unwrap();
        (ended.ending, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    fn file(&self, name: &str) -> PathBuf {
        self.folder.path().join(name)
    }
}

fn called(run: &str) -> Plan {
    Plan { run: run.to_owned(), ..example() }
}

#[test]
fn each_run_is_a_fresh_fork_and_two_servers_take_turns() {
    let fake = served("print('printed')");
    let lines: Vec<_> = ["one", "two", "three"].map(|run| fake.run(&called(run), 60.0, None)).into();
    assert!(lines.iter().all(|(ending, _)| *ending == Ending::Done));
    let field = |name: &str| lines.iter().map(|(_, lines)| lines[0][name].clone()).collect::<Vec<_>>();
    assert_eq!(field("runs"), [1, 1, 1]);
    assert_eq!(
        (field("path"), field("run")),
        (vec!["17".into(); 3], vec!["one".into(), "two".into(), "three".into()])
    );
    let parents = field("parent");
    assert!(parents[0] != parents[1] && parents[0] == parents[2], "{parents:?}");
    assert_eq!(std::fs::read_to_string(fake.file("one.stderr")).unwrap(), "printed\n");
}

#[rstest]
#[case::exits("os._exit(86)", Some(86), "exit status: 86", "")]
#[case::raises("raise ValueError('out of luck')", Some(1), "exit status: 1", "ValueError: out of luck")]
#[case::crashes("os.kill(os.getpid(), 11)", None, "signal: 11 (SIGSEGV)", "")]
fn a_fork_that_fails_is_quoted(
    #[case] does: &str,
    #[case] code: Option<i32>,
    #[case] status: &str,
    #[case] said: &str,
) {
    let (ending, _) = served(does).run(&called("one"), 60.0, None);
    let Ending::Failed { code: found, status: shown, complaint } = ending else { panic!("{ending:?}") };
    assert_eq!((found, complaint.starts_with(said)), (code, true), "{complaint}");
    assert!(shown.starts_with(status), "{shown}");
}

#[rstest]
#[case::that_hangs(Some(0.3), Ending::Killed)]
#[case::that_hangs_unasked(None, Ending::TimedOut { after: Duration::from_millis(700) })]
fn no_fork_is_waited_for_too_long_and_the_next_one_runs(
    #[case] kill_after: Option<f64>,
    #[case] ending: Ending,
) {
    let fake = served("time.sleep(60 if plan['run'] == 'hangs' else 0)");
    let begun = Instant::now();
    // Once per server.
    for run in ["hangs", "goes", "goes-on"] {
        let (timeout, kill_after) = if run == "hangs" { (0.7, kill_after) } else { (60.0, None) };
        let expected = if run == "hangs" { ending.clone() } else { Ending::Done };
        assert_eq!(fake.run(&called(run), timeout, kill_after).0, expected);
    }
    assert!(begun.elapsed() < Duration::from_secs(50));
}

#[test]
fn a_killed_fork_takes_its_children_with_it() {
    let fake = served(
        "subprocess.run(['sh', '-c', 'sleep 2; touch \"$0\"', os.path.dirname(sys.argv[0]) + '/alive'])",
    );
    assert_eq!(fake.run(&called("one"), 60.0, Some(0.5)).0, Ending::Killed);
    std::thread::sleep(Duration::from_millis(2500));
    assert!(!fake.file("alive").exists());
}

#[test]
fn a_trainer_whose_server_does_not_start_runs_as_processes_of_their_own() {
    let fake = served("pass");
    let script = fake.file("trainer.py");
    let text = std::fs::read_to_string(&script).unwrap();
    std::fs::write(&script, text.replace("runs = 0", "runs = 0 if sys.argv[-1] != 'serve' else sys.exit(1)"))
        .unwrap();
    let (ending, lines) = fake.run(&called("one"), 60.0, None);
    assert_eq!((ending, &lines[0]["parent"]), (Ending::Done, &std::process::id().into()));
}
