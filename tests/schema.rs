//! The published schemas against the code that reads the same documents: what the one accepts, so does the other.
//!
//! Two things no schema can say, and the code does: what holds between two fields (a rank is below the world), and that a
//! count is written without a point (to JSON Schema 1.0 is an integer).

use std::fs;
use std::path::{Path, PathBuf};

use jsonschema::Validator;
use proptest::collection::vec;
use proptest::prelude::*;
use rstest::rstest;
use serde_json::{Value, json};
use traintrue::program::Program;
use traintrue::scenario::{Catalogue, Corpus, expand};
use traintrue::schema::accept;
use traintrue_protocol::contract::Contract;
use traintrue_protocol::plan::Plan;
use traintrue_protocol::trace::TraceReader;

use crate::binary::traintrue;
use crate::in_process::Bench;
use crate::inputs::{PLAN, own_scenario};
use crate::round_trips::event;
use crate::scenarios::read;
use crate::strategies::{padding, plan, row_probes};

fn published() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/schema")
}

fn validator(name: &str) -> Validator {
    let text = fs::read_to_string(published().join(name)).unwrap();
    jsonschema::draft202012::new(&serde_json::from_str(&text).unwrap()).unwrap()
}

/// What the schema has against a document, if anything.
fn objection(validator: &Validator, document: &Value) -> Option<String> {
    validator.iter_errors(document).next().map(|error| format!("{}: {error}", error.instance_path()))
}

#[test]
fn the_published_schemas_are_those_of_the_code() {
    let fresh = tempfile::tempdir().unwrap();
    accept(fresh.path()).unwrap();
    let names = |folder: &Path| {
        let mut names: Vec<_> = fs::read_dir(folder).unwrap().map(|it| it.unwrap().file_name()).collect();
        names.sort();
        names
    };
    assert_eq!(names(&published()), names(fresh.path()));
    for name in names(fresh.path()) {
        let text = |folder: &Path| fs::read_to_string(folder.join(&name)).unwrap();
        let same = text(&published()) == text(fresh.path());
        assert!(same, "{name:?} is not what the types say: `traintrue accept schemas` writes it anew");
    }
}

#[test]
fn accept_writes_only_what_it_is_told_to() {
    let fresh = tempfile::tempdir().unwrap();
    let (schemas, matrix) = (fresh.path().join("schema"), fresh.path().join("matrix.json"));
    let files = ["--schemas", schemas.to_str().unwrap(), "--golden", matrix.to_str().unwrap()];
    let before = fs::read_to_string(published().join("../../ci/memory-limits.toml")).unwrap();
    fs::create_dir(&schemas).unwrap();
    traintrue(&[&["accept", "schemas"], &files[..]].concat()).with_exit(0);
    assert!(schemas.join("plan.json").exists() && !matrix.exists());
    assert_eq!(fs::read_to_string(published().join("../../ci/memory-limits.toml")).unwrap(), before);
    let refused = traintrue(&["accept", "everything"]).with_exit(2);
    assert!(refused.stderr.contains("[possible values: schemas, matrix, memory]"), "{}", refused.stderr);
}

/// Every scenario's first run, to its end.
#[rstest]
fn every_line_that_the_reference_trainer_writes_is_in_the_schema(#[files("scenarios/*.toml")] path: PathBuf) {
    let bench = Bench::new();
    let runs = expand(&read(&path), &Corpus::shipped().unwrap(), &bench.path("checkpoints")).unwrap().runs;
    let mut plan = runs[0].segments[0].plan.clone();
    // Here one process trains: the other ranks are not there.
    plan.train.together = false;
    let plan = &plan;
    let (plans, lines) = (validator("plan.json"), validator("trace.json"));
    assert_eq!(objection(&plans, &serde_json::to_value(plan).unwrap()), None);
    let trace = fs::read_to_string(bench.train("trace.jsonl", plan)).unwrap();
    assert!(trace.lines().count() > 4);
    for line in trace.lines() {
        assert_eq!(objection(&lines, &serde_json::from_str(line).unwrap()), None, "{line}");
    }
}

#[test]
fn the_reference_trainer_describes_itself_as_the_schema_says() {
    let description = serde_json::to_value(traintrue_reference::describe()).unwrap();
    assert_eq!(objection(&validator("description.json"), &description), None);
}

proptest! {
    #![proptest_config(crate::properties::config(48))]

    #[test]
    fn every_plan_and_every_event_is_in_the_schema(
        (plan, padding) in (plan(), padding()),
        events in vec(event(), 1..24),
    ) {
        let plan = Plan { probes: row_probes(&plan, padding), ..plan };
        let plan = serde_json::to_value(plan).unwrap();
        prop_assert_eq!(objection(&validator("plan.json"), &plan), None);
        let lines = validator("trace.json");
        for event in events {
            let line = serde_json::to_value(&event).unwrap();
            prop_assert_eq!(objection(&lines, &line), None, "{}", line);
        }
    }
}

fn scenario_as_json(text: &str) -> Result<Value, String> {
    let table: toml::Table = toml::from_str(text).map_err(|error| error.to_string())?;
    serde_json::to_value(table).map_err(|error| error.to_string())
}

/// Those of others' trainers too: a schema that refuses a good file would put red lines into somebody's editor.
#[rstest]
fn every_scenario_is_in_the_schema_that_its_editor_is_told(
    #[files("scenarios/*.toml")]
    #[files("golden/results/**/scenarios/*.toml")]
    #[files("tests/doubles/scenarios/*.toml")]
    path: PathBuf,
) {
    let text = fs::read_to_string(&path).unwrap();
    assert_eq!(objection(&validator("scenario.json"), &scenario_as_json(&text).unwrap()), None);
    if path.parent() == Some(&Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")) {
        assert!(text.starts_with("#:schema ../golden/schema/scenario.json\n"));
    }
}

#[rstest]
#[case::nothing_changed("seed = 11", "seed = 11", true)]
#[case::part_of_a_plan("name = \"once\"", "name = \"once\"\nwith = { train = { clip = 0.5 } }", true)]
#[case::unknown_key("class =", "clas =", false)]
#[case::other_schema("schema = 1", "schema = 2", false)]
#[case::no_name("id = \"mine\"", "id = \"mi/ne\"", false)]
#[case::no_version("order = 110", "since = \"1\"", false)]
#[case::unknown_need("order = 110", "needs = [\"resmue\"]", false)]
#[case::unknown_component("component = \"seeding\"", "component = \"seedling\"", false)]
#[case::unknown_invariant("invariant = \"determinism/repeat\"", "invariant = \"determinism/repat\"", false)]
#[case::unknown_fault_invariant("must = [\"determinism/repeat\"]", "must = [\"determinism\"]", false)]
#[case::unknown_plan_key("seed = 11", "sead = 11", false)]
#[case::unknown_plan_key_of_a_run(
    "name = \"once\"",
    "name = \"once\"\nwith = { train = { klip = 1 } }",
    false
)]
#[case::short_pieces("piece_bytes = 40", "piece_bytes = 3", false)]
#[case::unknown_death("name = \"once\"", "name = \"once\"\ndeaths = { how = \"bored\" }", false)]
#[case::a_list_for_a_name("name = \"once\"", "name = [\"once\"]", false)]
fn a_scenario(#[case] from: &str, #[case] to: &str, #[case] accepted: bool) {
    let folder = own_scenario("mine", |text| {
        assert!(text.contains(from), "{from}");
        text.replacen(from, to, 1)
    });
    let text = fs::read_to_string(folder.path().join("mine.toml")).unwrap();
    let code = Catalogue::load(Some(folder.path())).unwrap().refused(&[]).next().is_none();
    let document = scenario_as_json(&text).unwrap();
    assert_eq!(both(code, &validator("scenario.json"), &document.to_string()), accepted);
}

/// Whether the code and the schema both take `text`, or both refuse it.
fn both(code: bool, validator: &Validator, text: &str) -> bool {
    let parsed: Result<Value, _> = serde_json::from_str(text);
    let objection = match &parsed {
        Ok(document) => objection(validator, document),
        Err(error) => Some(error.to_string()),
    };
    assert_eq!(code, objection.is_none(), "code and schema differ on {text}: {objection:?}");
    code
}

/// `document` with the text `value` at `place`; without the place where the value is empty.
fn with(mut document: Value, place: &str, value: &str) -> String {
    let (parent, key) = place.rsplit_once('/').unwrap();
    let parent = document.pointer_mut(parent).unwrap();
    let mark = json!("the value under test");
    match parent {
        Value::Object(fields) if value.is_empty() => assert!(fields.remove(key).is_some()),
        Value::Object(fields) => _ = fields.insert(key.to_owned(), mark.clone()),
        other => other[key.parse::<usize>().unwrap()] = mark.clone(),
    }
    document.to_string().replace(&mark.to_string(), value)
}

#[rstest]
#[case::nothing_changed("/seed", "7", true)]
#[case::absent_field("/stop", "null", true)]
#[case::clip("/train/clip", "0.5", true)]
#[case::missing_field("/data/tokens", "", false)]
#[case::unknown_key("/data/sampels", "[]", false)]
#[case::unknown_key_of_the_contract("/contract", "{\"tale\": \"drop\"}", false)]
#[case::other_schema("/schema", "2", false)]
#[case::wrong_type("/data/shuffle", "1", false)]
#[case::text_for_a_count("/data/batch", "\"2\"", false)]
#[case::nothing_at_a_time("/data/batch", "0", false)]
#[case::negative_count("/data/epochs", "-1", false)]
#[case::half_an_epoch("/data/epochs", "1.5", false)]
#[case::huge_count("/data/epochs", "2147483649", false)]
#[case::nothing_between("/evaluate_every", "0", false)]
#[case::narrow("/data/max_length", "1", false)]
#[case::no_samples("/data/samples", "[]", false)]
#[case::negative_token("/data/samples/0/0", "-1", false)]
#[case::token_beyond_its_type("/data/samples/0/0", "4294967296", false)]
#[case::unknown_policy("/data/padding/policy", "\"widest\"", false)]
#[case::pads_to_nothing("/data/padding/multiple_of", "0", false)]
#[case::unknown_optimizer("/train/optimizer/name", "\"sgd\"", false)]
#[case::no_rate("/train/optimizer/lr", "0", false)]
#[case::nan("/train/optimizer/lr", "NaN", false)]
#[case::nan_in_words("/train/optimizer/lr", "\"nan\"", false)]
#[case::beyond_any_number("/train/optimizer/lr", "1e999", false)]
#[case::beta_of_one("/train/optimizer/betas", "[0.9, 1]", false)]
#[case::one_beta("/train/optimizer/betas", "[0.9]", false)]
#[case::negative_decay("/train/optimizer/decay", "-0.1", false)]
#[case::nothing_clips("/train/clip", "0", false)]
#[case::everything_dropped("/train/dropout", "1", false)]
#[case::negative_dropout("/train/dropout", "-0.5", false)]
#[case::unknown_target("/train/adapters", r#"{"r": 4, "alpha": 8, "targets": ["w"]}"#, false)]
#[case::adapters("/train/adapters", r#"{"r": 4, "alpha": 8, "targets": ["q", "v"]}"#, true)]
#[case::no_target("/train/adapters", r#"{"r": 4, "alpha": 8, "targets": []}"#, false)]
#[case::no_rank("/train/adapters", r#"{"r": 0, "alpha": 8, "targets": ["q"]}"#, false)]
#[case::no_world("/train/world", "0", false)]
#[case::long_warm_up("/train/schedule/warmup", "2147483649", false)]
#[case::no_updates("/train/schedule/updates", "0", false)]
#[case::unknown_boundary("/sample_memory", "[\"sometimes\"]", false)]
#[case::empty_probe("/probes", r#"[{"name": "rows", "samples": []}]"#, false)]
#[case::probe("/probes", r#"[{"name": "rows", "samples": [0, 1]}]"#, true)]
fn a_plan(#[case] place: &str, #[case] value: &str, #[case] accepted: bool) {
    let text = with(serde_json::from_str(PLAN).unwrap(), place, value);
    assert_eq!(both(Plan::parse(&text).is_ok(), &validator("plan.json"), &text), accepted);
}

const LOSS: &str =
    r#"{"event":"micro_batch","epoch":0,"index":0,"losses":[{"name":"lm","sum":1.5,"weight":9}]}"#;
const MEMORY: &str = r#"{"event":"memory","at":"update","step":1,"lanes":{"heap_bytes":1,"rss_bytes":null}}"#;
const END: &str = r#"{"event":"end","reason":"done","message":null}"#;

#[rstest]
#[case::nothing_changed(LOSS, "/index", "0", true)]
#[case::field_that_is_not_known(LOSS, "/mood", "\"good\"", true)]
#[case::field_that_is_absent(LOSS, "/losses", "", true)]
#[case::field_that_is_null(LOSS, "/samples", "null", true)]
#[case::nan_in_words(LOSS, "/losses/0/sum", "\"nan\"", true)]
#[case::less_than_any_number(LOSS, "/losses/0/sum", "\"-inf\"", true)]
#[case::nan(LOSS, "/losses/0/sum", "NaN", false)]
#[case::other_words(LOSS, "/losses/0/sum", "\"NaN\"", false)]
#[case::beyond_any_number(LOSS, "/losses/0/sum", "1e999", false)]
#[case::no_sum(LOSS, "/losses/0/sum", "", false)]
#[case::null_for_a_list(LOSS, "/losses", "null", false)]
#[case::missing_field(LOSS, "/epoch", "", false)]
#[case::negative_count(LOSS, "/width", "-4", false)]
#[case::half_a_row(LOSS, "/rows", "1.5", false)]
#[case::wrong_type(LOSS, "/samples", "\"0, 1\"", false)]
#[case::unknown_event(LOSS, "/event", "\"macro_batch\"", false)]
#[case::no_event(LOSS, "/event", "", false)]
#[case::negative_bytes(MEMORY, "/lanes/heap_bytes", "-1", false)]
#[case::unknown_boundary(MEMORY, "/at", "\"lunch\"", false)]
#[case::lane_of_words(MEMORY, "/lanes/heap_bytes", "\"1 KiB\"", false)]
#[case::one_more_lane(MEMORY, "/lanes/threads", "4", true)]
#[case::end(END, "/message", "\"bye\"", true)]
#[case::unknown_reason(END, "/reason", "\"tired\"", false)]
fn a_line_of_a_trace(#[case] line: &str, #[case] place: &str, #[case] value: &str, #[case] accepted: bool) {
    let text = with(serde_json::from_str(line).unwrap(), place, value);
    let bench = Bench::new();
    let path = bench.path("trace.jsonl");
    fs::write(&path, format!("{}\n{text}\n", opening())).unwrap();
    let read: Result<Vec<_>, _> = TraceReader::open(&path).unwrap().collect();
    assert_eq!(both(read.is_ok(), &validator("trace.json"), &text), accepted);
}

#[rstest]
#[case::nothing_changed("/trainer", "\"mine 2\"", true)]
#[case::field_that_is_not_known("/host", "\"mine\"", true)]
#[case::other_schema("/schema", "2", false)]
#[case::missing_field("/device", "", false)]
#[case::unknown_key_of_the_plan("/plan/sead", "7", false)]
#[case::unknown_convention("/contract/tail", "\"lost\"", false)]
fn the_opening_of_a_trace(#[case] place: &str, #[case] value: &str, #[case] accepted: bool) {
    let text = with(opening(), place, value);
    let bench = Bench::new();
    let path = bench.path("trace.jsonl");
    fs::write(&path, format!("{text}\n")).unwrap();
    let read: Result<Vec<_>, _> = TraceReader::open(&path).unwrap().collect();
    assert_eq!(both(read.is_ok(), &validator("trace.json"), &text), accepted);
}

fn opening() -> Value {
    let plan: Plan = serde_json::from_str(PLAN).unwrap();
    json!({
        "event": "run", "schema": 1, "trainer": "mine 1", "device": "none",
        "scenario": plan.scenario, "run": plan.run, "plan": plan, "contract": Contract::default(),
    })
}

#[rstest]
#[case::nothing_changed("/trainer", "\"mine 2\"", true)]
#[case::field_that_is_not_known("/mood", "\"good\"", true)]
#[case::other_schema("/schema", "2", false)]
#[case::missing_field("/capabilities", "", false)]
#[case::wrong_type("/contract/deterministic", "\"yes\"", false)]
#[case::unknown_convention("/contract/normaliser", "\"samples\"", false)]
#[case::negative_count("/contract/rows_per_sample", "-1", false)]
fn a_description(#[case] place: &str, #[case] value: &str, #[case] accepted: bool) {
    let text = with(serde_json::to_value(traintrue_reference::describe()).unwrap(), place, value);
    let bench = Bench::new();
    let path = bench.path("description.json");
    fs::write(&path, &text).unwrap();
    // The word that a trainer is started with is no file to `cat`, so it becomes the name of the shell.
    let trainer = Program::parse(&format!("sh -c 'cat {}'", path.display())).unwrap();
    let described = trainer.describe(std::time::Duration::from_secs(60));
    assert_eq!(both(described.is_ok(), &validator("description.json"), &text), accepted);
}
