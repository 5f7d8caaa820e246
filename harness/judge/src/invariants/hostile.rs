//! No number in a trace makes a rule panic or loop without end.

use std::panic::catch_unwind;
use std::path::{Path, PathBuf};

use serde_json::Value;
use traintrue_protocol::number::Number;
use traintrue_protocol::trace::Event;
use traintrue_protocol::trace::event::{Dropped, Row};
use traintrue_protocol::trace::since::Scheduled;

use crate::finding::Sheet;
use crate::invariants::recorded::testing::{Shape, clean};
use crate::pass::judge_trace;
use crate::rule::{Kind, RunEvidence};
use crate::rules::RULES;
use crate::testing::{at, batch_at, cut_at, memory, whole};

const FIGURES: [u64; 3] = [0, 1 << 63, u64::MAX];

/// The places of whole numbers in a document; of a list the first only.
fn counts(document: &Value, place: &str, found: &mut Vec<String>) {
    match document {
        Value::Number(number) if number.is_u64() => found.push(place.to_owned()),
        Value::Array(items) => {
            items.iter().take(1).for_each(|item| counts(item, &format!("{place}/0"), found))
        }
        Value::Object(fields) => {
            fields.iter().for_each(|(name, value)| counts(value, &format!("{place}/{name}"), found));
        }
        _ => {}
    }
}

fn written(lines: &[Value], path: &Path) {
    let text: String = lines.iter().map(|line| format!("{line}\n")).collect();
    std::fs::write(path, text).unwrap();
}

fn documents(events: &[Event]) -> Vec<Value> {
    events.iter().map(|event| serde_json::to_value(event).unwrap()).collect()
}

/// Judges a run by every invariant; only a panic matters here.
fn judged(segments: Vec<PathBuf>, against: &RunEvidence) {
    for segment in &segments {
        let _ = judge_trace(segment, false, RULES);
    }
    let run = RunEvidence { name: "run".to_owned(), segments, repeats: Vec::new() };
    for rule in RULES {
        let _ = match rule.kind {
            Kind::Run(judge) => judge(&run, &mut Sheet::default()),
            Kind::Pair(judge) => {
                judge(against, &run, &mut Sheet::default()).and(judge(&run, against, &mut Sheet::default()))
            }
            Kind::Ranks(judge) => judge(&[&run, against], Some(against), &mut Sheet::default()),
            Kind::Trace(_) | Kind::Process | Kind::Artefact => Ok(()),
        };
    }
}

/// Puts each figure in the place of each whole number of a trace, one at a time, and judges what comes of it.
fn panics(events: &[Event]) -> Vec<String> {
    let folder = tempfile::tempdir().unwrap();
    let path = |name: &str| folder.path().join(name);
    let (lines, cut) = (documents(events), cut_at(at(0, 3)));
    written(&lines, &path("against"));
    written(&documents(&cut[1]), &path("second"));
    let against =
        RunEvidence { name: "against".to_owned(), segments: vec![path("against")], repeats: Vec::new() };
    let mut panicked = Vec::new();
    for (number, line) in lines.iter().enumerate() {
        let mut places = Vec::new();
        counts(line, "", &mut places);
        for place in places {
            for figure in FIGURES {
                let mut lines = lines.clone();
                *lines[number].pointer_mut(&place).unwrap() = figure.into();
                written(&lines, &path("first"));
                let run = vec![path("first"), path("second")];
                if catch_unwind(|| judged(run, &against)).is_err() {
                    panicked.push(format!("{figure} in line {}, {place}", number + 1));
                }
            }
        }
    }
    panicked
}

fn row(sample: u64) -> Row {
    let (ids, real, targets) = (vec![9; 3], vec![true; 3], vec![Some(9), Some(9), None]);
    Row { sample, ids, real, targets, logits: vec![[Number(1.0), Number(3.5)]; 2] }
}

#[test]
fn no_figure_of_a_trace_makes_a_judge_panic() {
    let mut events = whole();
    events.insert(2, memory("heap_bytes", 7));
    let it = batch_at(&mut events, 0, 0);
    it.told = it.samples.iter().flatten().map(|&sample| row(sample)).collect();
    it.dropout = Some(vec![Dropped {
        units: 1000,
        dropped: 100,
        scale: Number(1.0 / 0.9),
        positions: 10,
        masks: 10,
        digest: "t:1".into(),
    }]);
    let panicked = panics(&events);
    assert!(panicked.is_empty(), "{panicked:#?}");
}

#[test]
fn no_figure_of_a_recorded_loop_makes_a_judge_panic() {
    let mut events = clean(Shape { epochs: 2, batches: 6, window: 2, ..Shape::default() });
    for event in &mut events {
        let Event::Update(it) = event else { continue };
        let since = it.since.as_mut().unwrap();
        let scheduled = |name: &str, length| Scheduled {
            name: name.into(),
            steps: it.step - 1,
            length: Some(length),
            argument: None,
            warmup: Some(0),
        };
        since.schedules = vec![scheduled("CosineAnnealingLR", 4), scheduled("LinearLR", 2)];
        since.seeds = vec![7];
        (it.lr, since.unused) = (vec![Number(0.1 * it.step as f64)], 1);
    }
    let panicked = panics(&events);
    assert!(panicked.is_empty(), "{panicked:#?}");
}
