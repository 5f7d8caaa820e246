//! A scripted trainer in a temporary folder, behaving and misbehaving.

use std::os::unix::fs::PermissionsExt;
use std::time::Instant;

use rstest::rstest;

use super::*;

const DESCRIPTION: &str = r#"{"schema":1,"trainer":"fake 1","capabilities":["resume"],"contract":{"tail":"flush","normaliser":"tokens","gradients":"mean","first_lr":"zero","rows_per_sample":1,"deterministic":true}}"#;

struct Fake {
    folder: TempDir,
    program: Program,
}

/// A trainer whose `describe` and `run` are the two pieces of shell.
fn fake(describe: &str, run: &str) -> Fake {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trainer.sh");
    let text = format!("case $1 in describe) {describe};; run) {run};; esac\n");
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, PermissionsExt::from_mode(0o755)).unwrap();
    let program = Program::parse(&format!("sh '{}'", path.display())).unwrap();
    Fake { folder, program }
}

impl Fake {
    fn run(&self, timeout: f64, kill_after: Option<f64>) -> (Ended, String) {
        let trace = self.folder.path().join("trace.jsonl");
        let errand = Errand {
            plan: &traintrue_protocol::plan::example(),
            environment: vec![("TRAINTRUE_DIE_BEFORE_OPERATION", "17".into())],
            trace: &trace,
            complaints: &self.folder.path().join("trace.stderr"),
            timeout: Duration::from_secs_f64(timeout),
            kill_after: kill_after.map(Duration::from_secs_f64),
            given_up: None,
        };
        let ended = self.program.run(&errand).unwrap();
        (ended, std::fs::read_to_string(trace).unwrap())
    }

    fn describe(&self) -> Result<Description, ProgramError> {
        self.program.describe(Duration::from_millis(700))
    }
}

#[test]
fn the_plan_goes_in_and_the_trace_comes_out() {
    let fake = fake(&format!("echo '{DESCRIPTION}'"), "cat; echo; echo $TRAINTRUE_DIE_BEFORE_OPERATION");
    assert_eq!(fake.describe().unwrap().trainer, "fake 1");
    let (ended, trace) = fake.run(10.0, None);
    assert_eq!(ended.ending, Ending::Done);
    let (plan, operation) = trace.split_once('\n').unwrap();
    assert_eq!(Plan::parse(plan).unwrap(), traintrue_protocol::plan::example());
    assert_eq!(operation, "17\n");
}

#[test]
fn a_trainer_that_fails_is_quoted() {
    let (ended, trace) = fake("", "echo one; echo 'out of luck' >&2; exit 3").run(10.0, None);
    let expected =
        Ending::Failed { code: Some(3), status: "exit status: 3".into(), complaint: "out of luck".into() };
    assert_eq!((ended.ending, trace.as_str()), (expected, "one\n"));
}

#[rstest]
#[case::that_hangs("sleep 60", Some(0.2), Ending::Killed)]
#[case::that_hangs_unasked("sleep 60", None, Ending::TimedOut { after: Duration::from_millis(400) })]
#[case::that_closes_its_output_and_hangs("exec >&-; sleep 60", None, Ending::TimedOut { after: Duration::from_millis(400) })]
#[case::whose_child_holds_the_output("sleep 60 & exit 0", None, Ending::Done)]
#[case::that_never_reads("exit 0", None, Ending::Done)]
fn no_trainer_is_waited_for_too_long(
    #[case] run: &str,
    #[case] kill_after: Option<f64>,
    #[case] ending: Ending,
) {
    let begun = Instant::now();
    let (ended, _) = fake("", run).run(0.4, kill_after);
    assert_eq!(ended.ending, ending);
    assert!(begun.elapsed() < Duration::from_secs(10));
}

#[test]
fn a_killed_trainer_takes_its_children_with_it() {
    let fake = fake("", "sh -c 'sleep 1; touch \"$0\"' \"${0%/*}/alive\"; exit 0");
    fake.run(0.2, None);
    std::thread::sleep(Duration::from_millis(1200));
    assert!(!fake.folder.path().join("alive").exists());
}

#[rstest]
#[case("exit 4", "ended with exit status: 4; expected one line of JSON")]
#[case("sleep 60", "did not end; expected one line of JSON")]
#[case("cat /dev/zero", "did not end its answer; expected one line of JSON")]
#[case(
    "echo hello",
    "answered something else than a description: expected value at line 1 column 1; it began \"hello\\n\""
)]
#[case("echo '{\"schema\":9}'", "speaks schema 9, this command speaks schema 1")]
#[case("echo '{\"schema\":1}'", "answered something else than a description: missing field `trainer`")]
fn a_trainer_that_does_not_describe_itself_is_one_clear_error(#[case] describe: &str, #[case] message: &str) {
    let error = fake(describe, "").describe().unwrap_err().to_string();
    let (_, said) = error.split_once("trainer.sh describe\" ").unwrap();
    assert!(said.starts_with(message), "{said}");
}

#[rstest]
#[case("/no/such/trainer", "the trainer \"/no/such/trainer describe\" cannot be started: No such file")]
#[case("", "--trainer: \"\" is not a command")]
#[case("python 'my", "--trainer: \"python 'my\" is not a command")]
fn a_trainer_that_cannot_be_started_is_one_clear_error(#[case] command: &str, #[case] message: &str) {
    let described = Program::parse(command).and_then(|program| program.describe(Duration::from_secs(1)));
    let error = described.unwrap_err().to_string();
    assert!(error.starts_with(message), "{error}");
}

#[rstest]
#[case::nothing("\n", "")]
#[case::one_line(" out of   luck\n", "out of luck")]
#[case::a_traceback(
    "Traceback:\n  File \"a.py\"\nValueError: boom\n\n",
    "ValueError: boom (before it: Traceback: File \"a.py\")"
)]
fn the_line_that_says_what_went_wrong_comes_first(#[case] said: &str, #[case] shown: &str) {
    assert_eq!(the_last_line_first(said), shown);
}
