//! A number that is NaN or infinite is a finding of its own, and makes no other rule compare nothing with nothing.

use std::path::{Path, PathBuf};

use serde_json::Value;
use traintrue_protocol::trace::Event;

use crate::finding::Sheet;
use crate::pass::judge_trace;
use crate::rule::{Kind, RunEvidence};
use crate::rules::RULES;
use crate::testing::whole;

const WORDS: [&str; 3] = ["nan", "inf", "-inf"];

/// The places of numbers with a fraction in a document; of a list the first two.
fn numbers(document: &Value, place: &str, found: &mut Vec<String>) {
    match document {
        Value::Number(number) if number.is_f64() => found.push(place.to_owned()),
        Value::Array(items) => {
            let items = items.iter().enumerate().take(2);
            items.for_each(|(at, item)| numbers(item, &format!("{place}/{at}"), found));
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| numbers(value, &format!("{place}/{name}"), found));
        }
        _ => {}
    }
}

/// Each number of a trace, the plan's aside: its line and its place there.
fn places(lines: &[Value]) -> Vec<(usize, String)> {
    let mut places = Vec::new();
    for (number, line) in lines.iter().enumerate().skip(1) {
        let mut found = Vec::new();
        numbers(line, "", &mut found);
        places.extend(found.into_iter().map(|place| (number, place)));
    }
    assert!(places.len() > 100);
    places
}

fn documents(events: &[Event]) -> Vec<Value> {
    events.iter().map(|event| serde_json::to_value(event).unwrap()).collect()
}

fn written(lines: &[Value], path: PathBuf) -> RunEvidence {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(&path, text).unwrap();
    let name = path.file_name().unwrap().to_string_lossy().into_owned();
    RunEvidence { name, segments: vec![path], repeats: Vec::new() }
}

/// What each rule over one trace finds: the rule, what was expected, and what was found.
fn of_trace(trace: &Path) -> Vec<(&'static str, String, String)> {
    let judged = judge_trace(trace, false, RULES);
    assert!(judged.error.is_none(), "{:?}", judged.error);
    let broken = judged.sheets.into_iter().filter_map(|(rule, sheet)| Some((rule.name, sheet.broken?)));
    broken.map(|(name, broken)| (name, broken.expected, broken.actual)).collect()
}

/// What each rule over two runs finds.
fn of_pair(run: &RunEvidence, against: &RunEvidence) -> Vec<(&'static str, String, String)> {
    let pairs = RULES.iter().filter_map(|rule| match rule.kind {
        Kind::Pair(judge) => {
            let mut sheet = Sheet::default();
            judge(run, against, &mut sheet).unwrap();
            let broken = sheet.broken?;
            Some((rule.name, broken.expected, broken.actual))
        }
        _ => None,
    });
    pairs.collect()
}

#[test]
fn a_number_that_is_lost_is_never_expected_and_two_runs_that_lose_it_are_equal() {
    let folder = tempfile::tempdir().unwrap();
    let clean = documents(&whole());
    let against = written(&clean, folder.path().join("against"));
    assert_eq!((of_trace(&against.segments[0]), of_pair(&against, &against)), (vec![], vec![]));
    let mut unseen = Vec::new();
    for (number, place) in places(&clean) {
        for word in WORDS {
            let mut lines = clean.clone();
            *lines[number].pointer_mut(&place).unwrap() = word.into();
            let run = written(&lines, folder.path().join("run"));
            let what = format!("{word} in line {}, {place}", number + 1);
            let alone = of_trace(&run.segments[0]);
            for (rule, expected, actual) in &alone {
                let lost = |text: &str| ["NaN", "inf"].iter().any(|word| text.contains(word));
                assert!(!(lost(expected) && lost(actual)), "{what}: {rule}: {expected}, {actual}");
            }
            assert_eq!(of_pair(&run, &run), [], "{what}");
            if alone.is_empty() && of_pair(&run, &against).is_empty() {
                unseen.push(what);
            }
        }
    }
    assert!(unseen.is_empty(), "{unseen:#?}");
}
