//! `traintrue watch` through the real binary: what it measures, passes on, ends and leaves behind.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::ExitStatusExt;
use std::process::{Child, Command, Output, Stdio};

use rstest::rstest;
use rustix::process::{Pid, Signal, kill_process};
use serde_json::Value;
use tempfile::TempDir;
use traintrue_memory::series::Point;

/// A process of this kind holds a little more at each step, or does not; it forks nothing, so that nothing is counted twice.
const STEPS: &str = r#"BEGIN {
    for (kept = "x"; length(kept) < 65536;) kept = kept kept;
    for (step = 1; step <= 600; step++) {
        if (LEAK) held[step] = kept step;
        for (i = 0; i < 20000; i++) work += i;
        print "step " step; fflush();
    }
}"#;

/// Marks every process that one test starts: the mark is in their environment and stays there.
struct Marked {
    marker: String,
    folder: TempDir,
}

impl Marked {
    fn new(name: &str) -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self { marker: format!("{name} {}", folder.path().display()), folder }
    }

    fn command<A: AsRef<OsStr>>(&self, arguments: &[A]) -> Command {
        // A job that a shell starts in the background ignores interrupts, and a process that begins so can never trap
        // them. These tests may run in such a job.
        let mut command = Command::new("env");
        command.args(["--default-signal", env!("CARGO_BIN_EXE_traintrue"), "watch"]);
        command.args(arguments).env("WATCHED_AS", &self.marker).current_dir(&self.folder);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// Watches a script for the shell.
    fn script(&self, options: &[&str], script: &str) -> Ran {
        self.run(&[options, &["--", "sh", "-c", script]].concat())
    }

    fn run(&self, arguments: &[&str]) -> Ran {
        ran(self.command(arguments).output().unwrap())
    }

    /// The pids of those that live.
    fn left(&self) -> Vec<i32> {
        let marked = format!("WATCHED_AS={}", self.marker).into_bytes();
        let pids =
            fs::read_dir("/proc").unwrap().filter_map(|it| it.unwrap().file_name().to_str()?.parse().ok());
        let is_marked = |pid: &i32| {
            let environment = fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
            environment.split(|byte| *byte == 0).any(|variable| variable == marked)
        };
        pids.filter(is_marked).collect()
    }
}

struct Ran {
    exit: i32,
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

fn ran(output: Output) -> Ran {
    let stderr = String::from_utf8_lossy(&output.stderr);
    assert!(!stderr.contains("panicked"), "{stderr}");
    Ran { exit: output.status.code().unwrap(), stdout: output.stdout, stderr: output.stderr }
}

impl Ran {
    fn said(&self) -> String {
        String::from_utf8_lossy(&self.stderr).into_owned()
    }

    /// The document, which must be all that stands on standard output.
    fn document(&self) -> Value {
        let stdout = String::from_utf8_lossy(&self.stdout);
        serde_json::from_str(&stdout).unwrap_or_else(|error| panic!("{error}: {stdout}; {}", self.said()))
    }

    fn with_exit(self, expected: i32) -> Self {
        assert_eq!(self.exit, expected, "{}", self.said());
        self
    }
}

#[rstest]
#[case("LEAK=1", "exceeds", 1)]
#[case("LEAK=", "within", 0)]
fn a_leak_a_step_is_told_from_flat_memory(#[case] leak: &str, #[case] verdict: &str, #[case] exit: i32) {
    let test = Marked::new("slope");
    let options = ["--step", r"step (\d+)", "--every", "1ms", "--max-slope", "16KiB/step"];
    let ran = test.run(&[&options[..], &["--format", "json", "--", "awk", "-v", leak, STEPS]].concat());
    let document = ran.with_exit(exit).document();
    let lane = &document["series"][0];
    assert_eq!((&lane["lane"], &lane["verdict"]), (&"rss_bytes".into(), &verdict.into()), "{document}");
    assert_eq!((&lane["per"], &document["command_exit"]), (&"step".into(), &0.into()));
    let slope = lane["slope_per_step"].as_f64().unwrap();
    let expected = if exit == 1 { 30_000.0..120_000.0 } else { -16_384.0..16_384.0 };
    assert!(expected.contains(&slope), "{document}");
}

#[test]
fn without_steps_growth_is_by_second_and_a_limit_by_step_is_not_judged() {
    let test = Marked::new("second");
    let run = |limit| {
        let options =
            ["--every", "1ms", "--max-slope", limit, "--format", "json", "--", "awk", "-v", "LEAK=1"];
        test.run(&[&options[..], &[STEPS]].concat())
    };
    let by_second = run("1KiB/s").with_exit(1).document();
    let lane = &by_second["series"][0];
    assert_eq!((&lane["per"], &lane["verdict"]), (&"second".into(), &"exceeds".into()), "{by_second}");
    assert!(lane["slope_per_step"].as_f64().unwrap() > 1024.0);
    assert!(lane["reason"].as_str().unwrap().contains("/second"), "{by_second}");
    let by_step = run("1KiB/step").with_exit(3).document();
    let lane = &by_step["series"][0];
    assert_eq!(lane["verdict"], "not-judged");
    assert!(lane["reason"].as_str().unwrap().contains("no steps were seen"), "{by_step}");
}

#[test]
fn steps_are_seen_on_standard_error_and_in_a_trace() {
    let test = Marked::new("steps");
    let steps = |options: &[&str], script: &str| {
        test.script(&[options, &["--every", "1ms", "--report", "out"]].concat(), script).with_exit(3);
        let rows = fs::read_to_string(test.folder.path().join("out/memory.csv")).unwrap();
        let mut rows = rows.lines();
        assert!(rows.next().unwrap().starts_with("step,rss_bytes"));
        rows.map(|row| row.split_once(',').unwrap().0.parse::<u64>().unwrap()).collect::<Vec<_>>()
    };
    let bar =
        r"for i in 1 2 3; do printf '\rstep %s: |##' $i >&2; sleep 0.1; done; printf '\r' >&2; sleep 0.1";
    assert_eq!(steps(&["--step", r"step (\d+)"], bar).last(), Some(&3));
    let update =
        r#"for i in 1 2 3; do echo "{\"event\":\"update\",\"step\":$i}" >> trace.jsonl; sleep 0.1; done"#;
    assert_eq!(steps(&["--trace", "trace.jsonl"], update), [1, 2, 3]);
}

#[rstest]
#[case::passed_through(&["--step", r"step (\d+)"])]
#[case::inherited(&[])]
fn standard_output_is_untouched_byte_by_byte(#[case] options: &[&str]) {
    let test = Marked::new("bytes");
    let bytes: Vec<u8> = (0..1_000_003_u32).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    fs::write(test.folder.path().join("bytes"), &bytes).unwrap();
    let ran = test.run(&[options, &["--", "cat", "bytes"]].concat()).with_exit(3);
    assert!(ran.stdout == bytes, "{} bytes", ran.stdout.len());
    let ran = test.run(&[options, &["--format", "json", "--", "cat", "bytes"]].concat()).with_exit(3);
    assert_eq!(ran.document()["command_exit"], 0);
    assert!(ran.stderr == bytes, "with a document on standard output, it is on standard error");
}

#[rstest]
#[case::dies_at_once("exit 0", 3, Some(0), None)]
#[case::fails("exit 41", 1, Some(41), None)]
#[case::is_killed("kill -s KILL $$", 1, None, Some(9))]
fn how_the_command_ended_is_told_apart(
    #[case] script: &str,
    #[case] exit: i32,
    #[case] code: Option<i32>,
    #[case] signal: Option<i32>,
) {
    let ran = Marked::new("ends").script(&["--max-slope", "1KiB/s", "--format", "json"], script);
    let document = ran.with_exit(exit).document();
    assert_eq!((&document["command_exit"], &document["command_signal"]), (&code.into(), &signal.into()));
    assert_eq!((&document["schema"], &document["stopped"]), (&1.into(), &Value::Null));
    assert_eq!(document["series"][0]["verdict"], "not-judged");
}

/// Holds 82 MiB and waits.
const GROW: &str = "dd if=/dev/zero bs=82M count=9 2>/dev/null | sleep 1000 &";

const SLEEP: &str = "while :; do sleep 0.1; done";

#[rstest]
#[case::it_obeys("", SLEEP, "SIGTERM", Some(15))]
#[case::it_saves_and_ends("trap 'exit 3' TERM;", SLEEP, "SIGTERM", None)]
#[case::it_ignores_it("trap '' TERM;", SLEEP, "SIGKILL", Some(9))]
#[case::it_forked("(sleep 1000 & sleep 1000 & wait) &", "wait", "SIGTERM", Some(15))]
#[case::its_child_ignores_it("(trap '' TERM; sleep 1000) & sleep 0.2;", "wait", "SIGKILL", Some(15))]
#[case::its_grandchild_left(
    "(setsid sh -c 'setsid sleep 1000 & wait' &); sleep 0.2;",
    SLEEP,
    "SIGTERM",
    Some(15)
)]
#[case::an_orphan_ignores_it(
    "(setsid sh -c 'trap \"\" TERM; sleep 1000' &); sleep 0.2;",
    SLEEP,
    "SIGKILL",
    Some(15)
)]
fn at_its_limit_the_whole_tree_is_ended(
    #[case] first: &str,
    #[case] then: &str,
    #[case] signal: &str,
    #[case] command_signal: Option<i32>,
) {
    let test = Marked::new("limit");
    let script = format!("{first} {GROW} {then}");
    let grace = if signal == "SIGKILL" { "300ms" } else { "60s" };
    let ran = test.script(&["--max-memory", "80MiB", "--grace", grace, "--format", "json"], &script);
    assert_eq!(test.left(), [0; 0], "{script}");
    let document = ran.with_exit(1).document();
    let stopped = &document["stopped"];
    assert_eq!((&stopped["reason"], &stopped["lane"]), (&"max-memory".into(), &"pss_bytes".into()));
    assert_eq!((&stopped["limit_bytes"], &stopped["signal"]), (&(80 << 20).into(), &signal.into()));
    assert!(stopped["bytes"].as_u64() >= Some(80 << 20), "{document}");
    assert_eq!(
        (&document["command_signal"], &document["survivors"]),
        (&command_signal.into(), &Value::Array(vec![]))
    );
}

#[test]
fn what_forked_workers_share_does_not_end_them() {
    let test = Marked::new("shared");
    let script = "x=$(head -c 60000000 /dev/zero | tr '\\0' x)
                  for worker in 1 2 3 4 5; do (sleep 0.7; true) & done; wait";
    let ran = test.script(&["--max-memory", "250MiB", "--report", "out"], script).with_exit(0);
    assert!(ran.said().contains("ended with exit status 0"), "{}", ran.said());
    let rows = fs::read_to_string(test.folder.path().join("out/memory.csv")).unwrap();
    let rss = |row: &str| row.split(',').nth(1).unwrap().parse::<u64>().unwrap();
    assert!(rows.lines().skip(1).any(|row| rss(row) > 250 << 20), "each counts what it shares: {rows}");
}

/// Starts a watch whose command says `ready`, and waits for it.
fn started(test: &Marked, options: &[&str], script: &str) -> (Child, BufReader<impl Read + use<>>) {
    let mut child = test.command(&[options, &["--", "sh", "-c", script]].concat()).spawn().unwrap();
    let mut stdout = BufReader::new(child.stdout.take().unwrap());
    let mut line = String::new();
    stdout.read_line(&mut line).unwrap();
    assert_eq!(line, "ready\n");
    (child, stdout)
}

fn send(pid: u32, signal: Signal) {
    kill_process(Pid::from_raw(i32::try_from(pid).unwrap()).unwrap(), signal).unwrap();
}

#[rstest]
#[case(Signal::INT, "INT")]
#[case(Signal::TERM, "TERM")]
#[case(Signal::HUP, "HUP")]
#[case(Signal::USR1, "USR1")]
fn signals_pass_through_and_the_command_decides(#[case] signal: Signal, #[case] name: &str) {
    let test = Marked::new(name);
    let script = format!("trap 'echo saved; exit 0' {name}; echo ready; while :; do sleep 0.05; done");
    let (child, mut stdout) = started(&test, &["--max-memory", "200MiB"], &script);
    send(child.id(), signal);
    let mut rest = String::new();
    stdout.read_to_string(&mut rest).unwrap();
    assert_eq!(rest, "saved\n");
    ran(child.wait_with_output().unwrap()).with_exit(0);
    assert_eq!(test.left(), [0; 0]);
}

/// The letter of a process's state.
fn state(pid: u32) -> char {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap();
    stat.rsplit_once(") ").unwrap().1.chars().next().unwrap()
}

#[test]
fn who_stops_and_continues_the_watch_stops_and_continues_both() {
    let test = Marked::new("stop");
    let (child, _stdout) = started(&test, &["--max-memory", "200MiB"], "echo ready; exec sleep 1000");
    let children = fs::read_to_string(format!("/proc/{0}/task/{0}/children", child.id())).unwrap();
    let command: u32 = children.trim().parse().unwrap();
    let wait_for = |stopped: bool| {
        while [child.id(), command].into_iter().any(|pid| (state(pid) == 'T') != stopped) {
            std::thread::sleep(std::time::Duration::from_millis(10));
        }
    };
    send(child.id(), Signal::TSTP);
    wait_for(true);
    send(child.id(), Signal::CONT);
    wait_for(false);
    send(child.id(), Signal::TERM);
    let ran = ran(child.wait_with_output().unwrap()).with_exit(1);
    assert!(ran.said().contains("ended by signal 15"), "{}", ran.said());
}

#[test]
fn what_was_ignored_stays_ignored() {
    let test = Marked::new("nohup");
    let watch = env!("CARGO_BIN_EXE_traintrue");
    let inner = "kill -s HUP $PPID; kill -s HUP $$; sleep 0.1; echo lives";
    let script = format!("trap '' HUP; exec {watch} watch --max-memory 200MiB -- sh -c '{inner}'");
    let output = Command::new("sh").args(["-c", &script]).env("WATCHED_AS", &test.marker).output().unwrap();
    let ran = ran(output).with_exit(0);
    assert_eq!(ran.stdout, b"lives\n");
}

#[test]
fn orphans_are_waited_for_while_the_command_runs() {
    let children = "cat /proc/$PPID/task/*/children | tr -d ' \\n'";
    let script = format!(
        "(sleep 0.3 &)
         until [ \"$({children})\" != $$ ]; do sleep 0.02; done
         i=0; until [ \"$({children})\" = $$ ]; do i=$((i+1)); [ $i -lt 500 ] || exit 7; sleep 0.02; done"
    );
    Marked::new("orphans").script(&["--max-memory", "200MiB"], &script).with_exit(0);
}

#[rstest]
#[case::inherited(&[])]
#[case::and_holds_the_pipe(&["--step", r"step (\d+)"])]
fn a_process_left_behind_lives_on_and_is_named(#[case] options: &[&str]) {
    let test = Marked::new("daemon");
    let options = [options, &["--max-memory", "200MiB", "--report", "out"]].concat();
    // Its streams are the watcher's where nothing is piped: who reads those would wait for it.
    let away = if options.contains(&"--step") { "" } else { ">/dev/null 2>&1" };
    let ran =
        test.script(&options, &format!("setsid sleep 1000 {away} & echo step 1; sleep 0.2")).with_exit(0);
    assert_eq!(ran.stdout, b"step 1\n");
    let document = fs::read(test.folder.path().join("out/watch.json")).unwrap();
    let document: Value = serde_json::from_slice(&document).unwrap();
    let left = test.left();
    for pid in &left {
        send(u32::try_from(*pid).unwrap(), Signal::KILL);
    }
    assert_eq!((left.len(), &document["survivors"]), (1, &left.clone().into()));
    assert!(ran.said().contains(&format!("processes still alive: {}", left[0])), "{}", ran.said());
}

#[test]
fn a_reader_who_stops_ends_the_command_as_without_a_watch() {
    let test = Marked::new("pipe");
    let (child, stdout) = started(&test, &["--step", r"step (\d+)"], "echo ready; exec yes step 1");
    drop(stdout);
    let output = child.wait_with_output().unwrap();
    assert_eq!((output.status.code(), output.status.signal()), (Some(1), None));
    assert!(String::from_utf8_lossy(&output.stderr).contains("ended by signal 13"));
}

#[rstest]
#[case(&["--", "/no/such/trainer"], "the command \"/no/such/trainer\" cannot be started: No such file")]
#[case(&["--", "/"], "cannot be started: Permission denied")]
#[case(&[], "COMMAND")]
#[case(&["--step", "step (", "--", "true"], "is not a regular expression")]
#[case(&["--step", r"step \d+", "--", "true"], "has no group")]
#[case(&["--step", "(a)", "--trace", "t", "--", "true"], "cannot be used with")]
#[case(&["--max-slope", "64KiB", "--", "true"], "an amount per step")]
#[case(&["--max-slope", "64/s", "--", "true"], "has no unit")]
#[case(&["--max-memory", "20", "--", "true"], "has no unit")]
#[case(&["--max-memory", "999999GiB", "--", "true"], "it would run out of memory first")]
#[case(&["--every", "0s", "--", "true"], "at least 1ms")]
#[case(&["--report", "/proc/nowhere", "--", "true"], "/proc/nowhere: ")]
fn a_watch_that_cannot_begin_is_exit_2_and_says_why(#[case] arguments: &[&str], #[case] why: &str) {
    let ran = Marked::new("refused").run(arguments).with_exit(2);
    assert!(ran.said().contains(why), "{}", ran.said());
    assert_eq!(ran.stdout, b"");
}

#[test]
fn a_report_leaves_what_the_gate_reads_and_the_document() {
    let test = Marked::new("report");
    let ran = test.run(&["--step", r"step (\d+)", "--report", "out", "--", "awk", "-v", "LEAK=", STEPS]);
    let (samples, document) =
        (test.folder.path().join("out/memory.csv"), test.folder.path().join("out/watch.json"));
    let series = traintrue_memory::series::read_csv(&samples, &["rss_bytes".to_owned()]).unwrap().series;
    let document: Value = serde_json::from_slice(&fs::read(document).unwrap()).unwrap();
    let span = |points: &[Point]| points.last().unwrap().step - points[0].step;
    assert_eq!(document["series"][0]["steps"].as_f64().unwrap(), span(&series[0].points));
    assert!(ran.stdout.starts_with(b"step 1\n") && ran.stdout.ends_with(b"step 600\n"));
}
