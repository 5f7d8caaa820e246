//! Every snippet of `scenarios/README.md` is a scenario, or a part of the first one.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use serde_json::Value;
use toml::Table;
use traintrue::scenario::{Corpus, Scenario, expand};
use traintrue::schema;
use traintrue_judge::rules;

use crate::binary::traintrue;

/// The TOML blocks of the page, in order.
fn snippets() -> Vec<String> {
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/README.md");
    let page = fs::read_to_string(page).unwrap();
    let blocks = page.split("\n```toml\n").skip(1);
    blocks.map(|block| block.split_once("\n```").unwrap().0.to_owned()).collect()
}

fn lay_over(base: &mut Table, over: Table) {
    for (key, value) in over {
        match (base.get_mut(&key), value) {
            (Some(toml::Value::Table(inner)), toml::Value::Table(over)) => lay_over(inner, over),
            (_, value) => _ = base.insert(key, value),
        }
    }
}

/// The first snippet with another laid over it. Other runs leave out what the first snippet asks of its own.
fn completed(first: &str, snippet: &str) -> String {
    let (mut whole, part): (Table, Table) = (first.parse().unwrap(), snippet.parse().unwrap());
    if part.contains_key("runs") {
        whole.remove("holds");
    } else if part.contains_key("plan") {
        // With other data the cuts of the first snippet may lie beyond its epochs.
        whole.remove("holds");
        let runs = whole.get_mut("runs").and_then(toml::Value::as_array_mut).unwrap();
        runs.retain(|run| run.get("cuts").is_none() && run.get("each_cut_after").is_none());
    }
    lay_over(&mut whole, part);
    toml::to_string(&whole).unwrap()
}

#[test]
fn the_cookbook_has_snippets_that_are_scenarios() {
    let snippets = snippets();
    assert!(snippets.len() > 15);
    let corpus = Corpus::shipped().unwrap();
    for snippet in &snippets {
        let text = completed(&snippets[0], snippet);
        let scenario =
            Scenario::parse(Path::new("snippet"), &text).unwrap_or_else(|error| panic!("{error}\n{snippet}"));
        let runs = expand(&scenario, &corpus, Path::new("checkpoints")).unwrap().runs;
        assert!(runs.len() >= scenario.runs.len(), "{snippet}");
        let asked = scenario.expectations.iter().map(|it| &it.invariant);
        for name in asked.chain(scenario.faults.iter().flat_map(|it| it.must.iter().chain(&it.may))) {
            assert!(rules::find(name).is_some(), "{name}");
        }
    }
}

#[test]
fn the_cookbook_has_every_field_of_a_scenario() {
    let mut written = BTreeSet::new();
    for snippet in snippets() {
        let table: Table = snippet.parse().unwrap();
        keys(&serde_json::to_value(table).unwrap(), &mut written);
    }
    let (_, schema) = schema::all().find(|(name, _)| *name == "scenario.json").unwrap();
    let mut fields = BTreeSet::new();
    properties(&schema.to_value(), &mut fields);
    assert!(fields.len() > 60, "{fields:?}");
    let missing: Vec<_> = fields.difference(&written).collect();
    assert!(missing.is_empty(), "no snippet of scenarios/README.md has {missing:?}");
}

/// The keys of every object in a document.
fn keys(document: &Value, found: &mut BTreeSet<String>) {
    match document {
        Value::Object(fields) => fields.iter().for_each(|(key, value)| {
            found.insert(key.clone());
            keys(value, found);
        }),
        Value::Array(items) => items.iter().for_each(|item| keys(item, found)),
        _ => {}
    }
}

/// The names of every property in a schema.
fn properties(schema: &Value, found: &mut BTreeSet<String>) {
    if let Some(Value::Object(fields)) = schema.get("properties") {
        found.extend(fields.keys().cloned());
    }
    match schema {
        Value::Object(fields) => fields.values().for_each(|value| properties(value, found)),
        Value::Array(items) => items.iter().for_each(|item| properties(item, found)),
        _ => {}
    }
}

#[test]
fn the_cookbook_quotes_the_error_of_a_name_that_selects_no_run() {
    let text = snippets().swap_remove(0).replace("against = \"whole\"", "against = \"hole\"");
    let error = Scenario::parse(Path::new("my-scenarios/stopped-early.toml"), &text).unwrap_err().to_string();
    let page = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios/README.md")).unwrap();
    assert!(page.contains(&format!("\n    {error}\n")), "{error}");
}

#[test]
fn the_cookbook_begins_with_a_scenario_that_the_reference_trainer_holds() {
    let first = snippets().swap_remove(0);
    let folder = tempfile::tempdir().unwrap();
    fs::write(folder.path().join("stopped-early.toml"), first).unwrap();
    let ran =
        traintrue(&["run", "stopped-early", "--scenarios", folder.path().to_str().unwrap()]).with_exit(0);
    assert!(ran.stdout.contains("✓ held        stopped-early"), "{}", ran.stdout);
}
