//! Bad input: one clear error that names file, line and field, exit status 2, and nothing overwritten.

use std::fs;
use std::path::Path;

use rstest::rstest;
use serde_json::{Value, json};

use crate::binary::{Ran, traintrue, traintrue_reading};
use crate::inputs::{PLAN, own_scenario, scripted_trainer};

/// A refusal: exit status 2, one line on standard error that begins so, paths in `folder` shown without it.
fn refused(ran: Ran, folder: &Path, message: &str) {
    let said = ran.stderr.replace(&format!("{}/", folder.display()), "");
    let said = said.trim_end();
    assert!(said.starts_with(&format!("traintrue: {message}")), "{said}");
    assert_eq!(said.lines().count(), 1, "{said}");
    ran.with_exit(2);
}

fn text(path: &Path) -> &str {
    path.to_str().unwrap()
}

#[rstest]
#[case::unknown_key("class =", "clas =", "mine.toml:6: unknown field `clas`")]
#[case::other_schema("schema = 1", "schema = 2", "mine.toml:2: schema 2, this command reads schema 1")]
#[case::not_toml("[plan]", "[plan", "mine.toml:")]
#[case::no_runs("[[runs]]", "[[random.x]]", "mine.toml:")]
#[case::id_of_another("id = \"mine\"", "id = \"determinism\"", "mine.toml:3: id: \"determinism\", expected ")]
#[case::negative("batch = 2", "batch = -2", "mine.toml:75: runs.once: ")]
#[case::huge(
    "samples = 90",
    "samples = 90000000",
    "mine.toml:75: runs.once: data.samples: 90000000, expected at most "
)]
#[case::unknown_plan_key(
    "accumulation = 8",
    "acumulation = 8",
    "mine.toml:75: runs.once: train.acumulation: unknown field `acumulation`"
)]
#[case::misspelt_invariant(
    "\"determinism/repeat\"",
    "\"determinism/repat\"",
    "mine.toml:81: holds: no invariant is called \"determinism/repat\"; nearest: determinism/repeat"
)]
#[case::fault_of_another(
    "my-unseeded-order",
    "unseeded-order",
    "mine.toml:86: faults: \"unseeded-order\" is also a fault of "
)]
fn a_scenario_that_cannot_be_used(#[case] from: &str, #[case] to: &str, #[case] message: &str) {
    let folder = own_scenario("mine", |text| {
        assert!(text.contains(from));
        text.replace(from, to)
    });
    refused(traintrue(&["list", "--scenarios", text(folder.path())]), folder.path(), message);
}

#[rstest]
#[case::nan("lr = 1e-3", "lr = nan", "mine: runs.once: plan: train.optimizer.lr: found NaN, expected ")]
#[case::nothing_at_a_time("batch = 2", "batch = 0", "mine: runs.once: plan: data.batch: found 0, expected ")]
fn a_scenario_that_gives_no_plan(#[case] from: &str, #[case] to: &str, #[case] message: &str) {
    let folder = own_scenario("mine", |text| text.replace(from, to));
    let ran = traintrue(&["run", "mine", "--scenarios", text(folder.path())]);
    refused(ran, folder.path(), message);
}

#[test]
fn a_scenario_that_cannot_be_used_stops_itself_alone() {
    let folder = own_scenario("mine", |text| text);
    fs::write(folder.path().join("mine-too.toml"), "schema = 1\nid = \"mine-too\"\ntitel = \"t\"\n").unwrap();
    let scenarios = ["--scenarios", text(folder.path())];
    let listed = traintrue(&[&["list"], &scenarios[..]].concat());
    assert!(listed.stdout.contains("mine") && listed.stdout.contains("determinism"));
    refused(listed, folder.path(), "mine-too.toml:3: unknown field `titel`");
    let trainer = scripted_trainer("exit 9");
    let ran = traintrue(&[&["run", "mine", "--trainer", &trainer.command], &scenarios[..]].concat());
    assert!(
        ran.stdout.contains("protocol/answers is broken") && ran.stderr.contains("mine-too.toml:3: "),
        "{ran:?}"
    );
    ran.with_exit(2);
}

#[test]
fn a_scenario_that_is_not_utf_8_and_a_folder_without_one() {
    let folder = tempfile::tempdir().unwrap();
    let list = || traintrue(&["list", "--scenarios", text(folder.path())]);
    let shown = folder.path().display();
    refused(list(), Path::new("/none"), &format!("{shown}: no scenario here"));
    fs::write(folder.path().join("mine.toml"), b"schema = 1\nid = \"\xff\"\n").unwrap();
    refused(list(), folder.path(), "mine.toml:2: the line is not UTF-8");
    refused(
        traintrue(&["list", "--scenarios", "/no/such"]),
        folder.path(),
        "/no/such: cannot read the scenarios",
    );
}

#[rstest]
#[case::unknown_key("\"seed\"", "\"sead\"", "plan: sead: unknown field `sead`")]
#[case::nan("1e-3", "NaN", "plan: train.optimizer.lr: expected value at line 12 column ")]
#[case::negative(
    "\"batch\": 2",
    "\"batch\": -2",
    "plan: data.batch: invalid value: integer `-2`, expected u64 at line 6"
)]
#[case::nothing_at_a_time(
    "\"batch\": 2",
    "\"batch\": 0",
    "plan: data.batch: found 0, expected a count from 1"
)]
#[case::token_out_of_range("13,", "99,", "plan: data.samples[2][1]: found 99, expected an id below ")]
#[case::other_schema("\"schema\": 1", "\"schema\": 2", "plan: schema: found 2, expected 1")]
#[case::huge("\"epochs\": 2", "\"epochs\": 99999999999", "plan: data.epochs: found 99999999999, expected ")]
#[case::beyond_any_number(
    "\"epochs\": 2",
    "\"epochs\": 1e999",
    "plan: data.epochs: number out of range at line 6"
)]
#[case::unknown_size("\"tiny\"", "\"vast\"", "plan: model.size: \"vast\" is not a size")]
#[case::cut_short("\"model\": {\"size\": \"tiny\"}\n}\n", "", "plan: ")]
fn a_plan_that_cannot_be_followed(#[case] from: &str, #[case] to: &str, #[case] message: &str) {
    assert!(PLAN.contains(from));
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("plan.json");
    fs::write(&path, PLAN.replace(from, to)).unwrap();
    let shown = if message.starts_with("plan: model") { "" } else { "plan.json: " };
    refused(traintrue(&["train", "--plan", text(&path)]), folder.path(), &format!("{shown}{message}"));
}

#[test]
fn a_plan_that_is_not_utf_8() {
    let ran = traintrue_reading(b"{\"schema\": \xff}", &["train"]);
    refused(
        ran,
        Path::new("/none"),
        "standard input: cannot read the plan: stream did not contain valid UTF-8",
    );
}

#[rstest]
#[case::bad_plan("\"batch\": 2", "\"batch\": 0", "ndarray")]
#[case::no_such_device("", "", "cuda:99")]
fn a_plan_that_is_refused_leaves_the_trace_that_is_there(
    #[case] from: &str,
    #[case] to: &str,
    #[case] device: &str,
) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.jsonl");
    fs::write(&path, "precious").unwrap();
    let mut plan: Value = serde_json::from_str(&PLAN.replace(from, to)).unwrap();
    plan["trace"] = json!(path);
    traintrue_reading(plan.to_string().as_bytes(), &["train", "--device", device]).with_exit(2);
    assert_eq!(fs::read_to_string(&path).unwrap(), "precious");
}

type Change = fn(&str) -> Vec<u8>;

#[rstest]
#[case::cut_short(|text: &str| text[..text.len() - 9].into(), ": the last line is cut short")]
#[case::unknown_event(|text: &str| text.replace("\"micro_batch\"", "\"macro_batch\"").into(), ":4: unknown event \"macro_batch\"")]
#[case::bad_field(|text: &str| text.replacen("\"width\":", "\"width\":-", 1).into(), ":4: the micro_batch event does not parse: invalid value: integer `-")]
#[case::missing_field(|text: &str| text.replace("\"step\":1,", "").into(), " event does not parse: missing field `step`")]
#[case::other_schema(|text: &str| text.replacen("\"schema\":1", "\"schema\":7", 1).into(), ":1: the trace has schema 7, this command reads schema 1")]
#[case::empty(|_: &str| Vec::new(), ": the first event is missing: the trace is empty, expected run")]
#[case::no_opening(|text: &str| text.split_once('\n').unwrap().1.into(), ": the first event is ")]
#[case::binary(|_: &str| vec![0x7f, b'E', b'L', b'F', 0xff, b'\n'], ":1: the line is not UTF-8")]
#[case::prose(|_: &str| b"epoch 1, loss 2.3\n".to_vec(), ":1: not an event: expected value at line 1 column 1")]
fn a_trace_that_cannot_be_read(#[case] change: Change, #[case] message: &str) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("trace.jsonl");
    let good = traintrue_reading(PLAN.as_bytes(), &["train"]).with_exit(0).stdout;
    let bytes = change(&good);
    fs::write(&path, &bytes).unwrap();
    let ran = traintrue(&["check", text(&path)]).with_exit(2);
    assert!(ran.stderr.starts_with(&format!("traintrue: {}:", path.display())), "{}", ran.stderr);
    assert!(ran.stderr.contains(message), "{}", ran.stderr);
    assert_eq!((fs::read(&path).unwrap(), ran.stdout.as_str()), (bytes, ""));
}

#[rstest]
#[case::not_utf_8(b"{\"text\": \"a\"}\n\xff\n", "my.jsonl:2: the line is not UTF-8")]
#[case::not_json(b"{\"text\": \"a\"}\n{\"text\": \"a\n", "my.jsonl:2: ")]
#[case::unknown_field(b"{\"txt\": \"a\"}\n", "my.jsonl:1: unknown field `txt`, expected `text`")]
#[case::empty(b"", "my.jsonl: the corpus is empty")]
#[case::no_words(b"{\"text\": \" \"}\n", "my.jsonl: no line of the corpus has a word")]
fn a_corpus_that_cannot_be_used(#[case] bytes: &[u8], #[case] message: &str) {
    let folder = tempfile::tempdir().unwrap();
    let (corpus, kept) = (folder.path().join("my.jsonl"), folder.path().join("report.json"));
    fs::write(&corpus, bytes).unwrap();
    fs::write(&kept, "precious").unwrap();
    let report = text(folder.path());
    let ran = traintrue(&["run", "determinism", "--corpus", text(&corpus), "--report", report]);
    refused(ran, folder.path(), message);
    assert_eq!(fs::read_to_string(&kept).unwrap(), "precious");
}

/// The plan, saving a checkpoint in the middle of a window.
fn saving(folder: &Path) -> Value {
    let mut plan: Value = serde_json::from_str(PLAN).unwrap();
    plan["stop"] = json!({"epoch": 0, "micro_batches": 1, "save": folder});
    plan
}

/// The plan, going on from there.
fn resuming(folder: &Path) -> Value {
    let mut plan: Value = serde_json::from_str(PLAN).unwrap();
    plan["start"] = json!({"from": folder});
    plan
}

fn truncate(folder: &Path) {
    let path = folder.join("model.safetensors");
    let bytes = fs::read(&path).unwrap();
    fs::write(path, &bytes[..bytes.len() / 2]).unwrap();
}

fn flip(folder: &Path) {
    let path = folder.join("optimizer.safetensors");
    let mut bytes = fs::read(&path).unwrap();
    let last = bytes.len() - 5;
    bytes[last] ^= 0x10;
    fs::write(path, bytes).unwrap();
}

#[rstest]
#[case::truncated(truncate, "model.safetensors: ")]
#[case::flipped_bit(flip, "is not what was written: its checksum does not match")]
#[case::missing_file(|folder: &Path| fs::remove_file(folder.join("window.safetensors")).unwrap(), "window.safetensors: No such file")]
#[case::not_a_manifest(|folder: &Path| fs::write(folder.join("manifest.json"), b"\xff").unwrap(), "manifest.json: ")]
#[case::unfinished(|folder: &Path| fs::remove_file(folder.join("manifest.json")).unwrap(), "no checkpoint here; start.from names a folder")]
fn a_checkpoint_that_is_damaged(#[case] damage: fn(&Path), #[case] message: &str) {
    let folder = tempfile::tempdir().unwrap();
    traintrue_reading(saving(folder.path()).to_string().as_bytes(), &["train"]).with_exit(0);
    let checkpoint = fs::read_dir(folder.path()).unwrap().next().unwrap().unwrap().path();
    damage(&checkpoint);
    let left: Vec<_> = files(&checkpoint);
    let ran = traintrue_reading(resuming(folder.path()).to_string().as_bytes(), &["train"]).with_exit(2);
    assert!(ran.stderr.contains(message), "{}", ran.stderr);
    assert!(ran.stderr.contains(text(folder.path())), "{}", ran.stderr);
    assert_eq!(files(&checkpoint), left);
}

fn files(folder: &Path) -> Vec<(String, Vec<u8>)> {
    let read = |entry: std::io::Result<fs::DirEntry>| {
        let path = entry.unwrap().path();
        (path.display().to_string(), fs::read(path).unwrap())
    };
    let mut files: Vec<_> = fs::read_dir(folder).unwrap().map(read).collect();
    files.sort();
    files
}

#[rstest]
#[case::another_size("/model/size", json!("small"), "model.safetensors: tensor ")]
#[case::another_seed("/seed", json!(8), "seed 7 in the checkpoint, 8 in the plan")]
#[case::no_such_folder("/start/from", json!("/no/such/folder"), "no checkpoint here")]
fn a_checkpoint_of_another_run(#[case] place: &str, #[case] value: Value, #[case] message: &str) {
    let folder = tempfile::tempdir().unwrap();
    traintrue_reading(saving(folder.path()).to_string().as_bytes(), &["train"]).with_exit(0);
    let mut plan = resuming(folder.path());
    *plan.pointer_mut(place).unwrap() = value;
    let ran = traintrue_reading(plan.to_string().as_bytes(), &["train"]).with_exit(2);
    assert!(ran.stderr.contains(message), "{}", ran.stderr);
}

#[rstest]
#[case::a_variable("python train.py --out $OUT", "--resume: \"$OUT\" means something to a shell")]
#[case::a_variable_in_a_word(
    "python train.py --out=${OUT}/last",
    "--resume: \"--out=${OUT}/last\" means something"
)]
#[case::an_assignment("SEED=3 python train.py", "--resume: \"SEED=3\" means something to a shell")]
#[case::two_commands("cd {out} && python train.py", "--resume: \"&&\" means something to a shell")]
#[case::nothing("", "--resume: \"\" is not a command")]
fn a_resume_that_only_a_shell_would_understand(#[case] resume: &str, #[case] message: &str) {
    for verb in if cfg!(target_os = "linux") { &["cut", "crash"][..] } else { &["cut"][..] } {
        refused(traintrue(&[verb, "--resume", resume, "--", "true"]), Path::new("."), message);
    }
}
