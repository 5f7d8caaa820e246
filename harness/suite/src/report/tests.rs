//! What the reports look like, as snapshots.

use std::collections::BTreeMap;

use traintrue_judge::finding::{At, Finding, Waived};
use traintrue_judge::verdict::{Outcome, RunReport, Summary, Verdict};
use traintrue_protocol::contract::Contract;
use traintrue_protocol::vocabulary::Component;

use super::*;
use crate::kill_matrix::{Fate, FaultOutcome, FaultReport, Share};
use crate::scenario::Catalogue;

fn counts(counts: &[(&str, u64)]) -> BTreeMap<String, u64> {
    counts.iter().map(|(name, count)| (name.to_string(), *count)).collect()
}

pub(crate) fn finding() -> Finding {
    Finding {
        invariant: "seam/identical".into(),
        component: Component::Boundary,
        run: "cut-1603".into(),
        line: 1812,
        at: At { event: "update".into(), step: Some(201), ..At::default() },
        expected: "an update of 8 micro-batches after index 1607".into(),
        actual: "an update of 5 micro-batches after index 1607".into(),
        cause: "the partial window was lost: 3 micro-batches never reach an update".into(),
        reproduce: "traintrue run resume-mid-window --fault partial-window-lost".into(),
        trace: "cut-1603.2.jsonl".into(),
        waived: None,
    }
}

pub(super) fn report() -> RunReport {
    let held = Outcome {
        scenario: "resume-mid-window".into(),
        verdict: Verdict::Held,
        reason: None,
        compared: counts(&[("seam/identical", 9000), ("window/closes-as-declared", 128)]),
        counted: counts(&[("runs", 20), ("cuts", 19), ("updates", 1341)]),
        observed: Vec::new(),
        notes: vec!["the corpus is too short: it was repeated 2 times, in order".into()],
        findings: Vec::new(),
        seconds: 12.34,
        traces: Vec::new(),
        pairs: Vec::new(),
    };
    let broken = Outcome {
        scenario: "resume".into(),
        verdict: Verdict::Broken,
        findings: vec![finding(); 6],
        observed: Vec::new(),
        notes: Vec::new(),
        ..held.clone()
    };
    let padded = Outcome {
        scenario: "padding".into(),
        compared: counts(&[("batch/as-planned", 1)]),
        counted: counts(&[("runs", 1), ("tokens", 60), ("positions", 80)]),
        observed: Vec::new(),
        notes: Vec::new(),
        ..held.clone()
    };
    let unjudged = Outcome::not_judged("torn-checkpoint", "no file-faults".into());
    let outcomes = vec![held, broken, padded, unjudged];
    RunReport::new("fake 1".into(), Contract::default(), outcomes)
}

fn matrix() -> FaultReport {
    let caught = FaultOutcome {
        fault: "partial-window-lost".into(),
        class: "resume".into(),
        scenario: "resume-mid-window".into(),
        verdict: Fate::Caught,
        expected: vec!["seam/identical".into()],
        may: Vec::new(),
        broke: vec!["seam/identical".into(), "window/closes-as-declared".into()],
        component: "boundary".into(),
        random: Some(Share { caught: 2, tried: 3 }),
    };
    let missed = FaultOutcome {
        fault: "adapter-merged".into(),
        verdict: Fate::Missed,
        may: vec!["reload/same-outputs".into()],
        broke: Vec::new(),
        component: String::new(),
        random: None,
        ..caught.clone()
    };
    let summary = counts(&[("caught", 1), ("missed", 1)]);
    FaultReport { schema: 1, baseline: Verdict::Held, part: None, faults: vec![caught, missed], summary }
}

/// What a person reads, without its colours.
fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn a_person_sees_a_line_a_scenario_and_a_block_a_finding() {
    insta::assert_snapshot!(plain(&text::run(&report())));
}

#[test]
fn what_may_follow_from_a_finding_stands_under_it() {
    let of = |invariant: &str, component: Component| Finding {
        invariant: invariant.into(),
        component,
        ..finding()
    };
    let mut report = report();
    report.outcomes.drain(..1);
    report.outcomes.truncate(1);
    report.outcomes[0].findings = vec![
        of("window/closes-as-declared", Component::Boundary),
        // It only says that two runs differ.
        of("seam/identical", Component::Moments),
        of("seam/identical", Component::Moments),
        // The same component, seen from another side.
        of("ledger/every-sample-once", Component::Boundary),
        of("schedule/closed-form", Component::Schedule),
    ];
    insta::assert_snapshot!(plain(&text::run(&report)));
    insta::assert_snapshot!(markdown::run(&report));
}

#[test]
fn lines_and_codes_that_a_trainer_says_stay_within_its_block() {
    let mut report = report();
    report.outcomes[1].findings[0].actual = "error: Traceback\n  File \"train.py\"\u{1b}[2J".into();
    let text = plain(&text::run(&report));
    let block = "  actual     error: Traceback\n               File \"train.py\"\\u{1b}[2J\n";
    assert!(text.contains(block), "{text}");
}

#[test]
fn a_person_sees_a_line_a_fault() {
    insta::assert_snapshot!(plain(&text::faults(
        &matrix(),
        &["adapter-merged: not in the golden matrix".into()]
    )));
}

#[test]
fn a_verdict_has_its_colour() {
    assert!(text::run(&report()).contains("\u{1b}[32m✓ held"));
}

#[test]
fn continuous_integration_sees_cases_failures_and_reasons() {
    insta::with_settings!({filters => vec![(r#" uuid="[^"]*""#, ""), (r#" timestamp="[^"]*""#, "")]}, {
        insta::assert_snapshot!(junit::run(&report()).unwrap());
        insta::assert_snapshot!(junit::faults(&matrix()).unwrap());
    });
}

#[test]
fn a_program_sees_one_document_with_the_published_fields() {
    let document: serde_json::Value = serde_json::from_str(&json::document(&report()).unwrap()).unwrap();
    let fields = |value: &serde_json::Value| value.as_object().unwrap().keys().cloned().collect::<Vec<_>>();
    assert_eq!(fields(&document), ["contract", "outcomes", "schema", "summary", "trainer"]);
    assert_eq!(document["summary"], serde_json::json!({"held": 2, "broken": 1, "not_judged": 1}));
    assert_eq!(document["outcomes"][3]["verdict"], "not-judged");
    assert_eq!(document["outcomes"][0]["reason"], serde_json::Value::Null);
    let finding = &document["outcomes"][1]["findings"][0];
    assert_eq!(finding["at"], serde_json::json!({"event": "update", "step": 201}));
    let faults: serde_json::Value = serde_json::from_str(&json::document(&matrix()).unwrap()).unwrap();
    assert_eq!(fields(&faults), ["baseline", "faults", "schema", "summary"]);
    assert_eq!(faults["faults"][0]["random"], serde_json::json!({"caught": 2, "tried": 3}));
}

/// The shipped scenarios and one that no edit of theirs changes.
fn catalogue() -> Catalogue {
    let folder = tempfile::tempdir().unwrap();
    std::fs::write(folder.path().join("tea-break.toml"), include_str!("tests/tea-break.toml")).unwrap();
    Catalogue::load(Some(folder.path())).unwrap()
}

#[test]
fn everything_that_has_a_name_is_explained_in_full() {
    let catalogue = catalogue();
    for name in ["tea-break", "cold-tea", "protocol/answers"] {
        insta::assert_snapshot!(explain::explain(&catalogue, name).unwrap());
    }
    insta::assert_snapshot!(explain::explain(&catalogue, "tea-brake").unwrap_err());
    insta::assert_snapshot!(explain::explain(&catalogue, "cursor").unwrap());
}

#[test]
fn a_word_for_a_component_and_a_capability_is_explained_as_both() {
    let page = explain::explain(&catalogue(), "adapters").unwrap();
    assert!(page.contains("adapters (component)") && page.contains("\n\nadapters (capability)"), "{page}");
}

#[test]
fn the_list_names_everything_that_can_be_explained() {
    let listing = list::list(&catalogue());
    let text = list::text(&listing);
    let words = listing.components.iter().chain(&listing.capabilities);
    let all = listing.scenarios.iter().chain(&listing.faults).chain(&listing.invariants).chain(words);
    for entry in all {
        assert!(text.contains(&entry.id) && !entry.says.is_empty(), "{}", entry.id);
        assert!(explain::explain(&catalogue(), &entry.id).is_ok(), "{}", entry.id);
    }
}

#[test]
fn a_verdict_within_a_spread_is_not_called_bit_identical() {
    let mut outcome = report().outcomes.swap_remove(0);
    outcome.counted.insert("repeats".into(), 2);
    let proof = text::proof(&outcome);
    assert!(proof.contains("within the spread of 2 repeats") && !proof.contains("identical"), "{proof}");
}

/// One scenario of one failure that is waived, one of two of which one is not, and one that could not be judged.
fn waived() -> RunReport {
    let mut report = report();
    report.notes = vec!["stated in traintrue.toml: deterministic false".into()];
    let known = Finding {
        waived: Some(Waived { reason: "until release 3".into(), until: "2027-03-31".into() }),
        ..finding()
    };
    let mut broken = report.outcomes.swap_remove(1);
    broken.findings =
        vec![known.clone(), Finding { invariant: "window/closes-as-declared".into(), ..finding() }];
    let other = Outcome {
        scenario: "known".into(),
        verdict: Verdict::Waived,
        findings: vec![Finding { trace: "/report/my traces/cut-1603.2.jsonl".into(), ..known }],
        ..broken.clone()
    };
    report.outcomes = vec![other, broken, Outcome::not_judged("torn-checkpoint", "no file-faults".into())];
    report.summary = Summary::of(&report.outcomes);
    report
}

#[test]
fn what_is_waived_is_seen_everywhere_with_its_reason() {
    let report = waived();
    insta::assert_snapshot!(plain(&text::run(&report)));
    insta::assert_snapshot!(markdown::run(&report));
    let said = "waived: until release 3 until 2027-03-31";
    let junit = junit::run(&report).unwrap();
    assert!(
        junit.contains(&format!("<skipped message=\"{said}\">")) && junit.contains("failures=\"1\""),
        "{junit}"
    );
    let json = json::document(&report).unwrap();
    assert!(json.contains("\"verdict\": \"waived\"") && json.contains("\"until\": \"2027-03-31\""));
    let page = html::run(&report, &pictures::Pictures::default());
    assert!(page.contains("~ 1 waived") && page.contains(said), "{page}");
}

#[test]
fn a_page_of_markdown_shows_what_a_trainer_says_as_text() {
    let mut report = report();
    report.outcomes.truncate(2);
    report.outcomes[1].findings[0].actual = "<img src=x> | `a`\n# b".into();
    insta::assert_snapshot!(markdown::run(&report));
}

#[test]
fn code_scanning_sees_a_rule_an_invariant_and_a_result_a_finding() {
    let document = sarif::run(&waived());
    let run = &document["runs"][0];
    let results = run["results"].as_array().unwrap();
    for result in results {
        let rule = &run["tool"]["driver"]["rules"][result["ruleIndex"].as_u64().unwrap() as usize];
        assert_eq!(rule["id"], result["ruleId"]);
    }
    let places: Vec<_> = results.iter().map(|it| &it["locations"][0]["physicalLocation"]).collect();
    assert_eq!(places[0]["artifactLocation"]["uri"], "file:///report/my%20traces/cut-1603.2.jsonl");
    assert_eq!(
        (&places[1]["artifactLocation"]["uri"], &places[1]["region"]["startLine"]),
        (&"cut-1603.2.jsonl".into(), &1812.into())
    );
    let suppressed: Vec<bool> = results.iter().map(|it| it.get("suppressions").is_some()).collect();
    assert_eq!(suppressed, [true, true, false]);
    insta::with_settings!({filters => vec![(env!("CARGO_PKG_VERSION"), "[version]")]}, {
        insta::assert_snapshot!(json::document(&document).unwrap());
    });
}
