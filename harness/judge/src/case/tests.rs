//! From what runs leave to an outcome: traces written by hand, judged by the real judge.

use std::fs;
use std::time::Duration;

use traintrue_protocol::contract::Contract;
use traintrue_protocol::plan::{Plan, Stop, example};
use traintrue_protocol::trace::event::{End, EndReason, Run};
use traintrue_protocol::trace::{Event, TraceWriter};

use super::*;
use crate::evidence::{Ending, SegmentEnding};
use crate::verdict::Verdict;

struct Bench {
    folder: tempfile::TempDir,
    evidence: Evidence,
}

impl Bench {
    fn new() -> Self {
        Self { folder: tempfile::tempdir().unwrap(), evidence: Evidence::default() }
    }

    /// A run with one process.
    fn run(mut self, name: &str, trace: &[u8], ending: Ending) -> Self {
        let path = self.folder.path().join(format!("{name}.jsonl"));
        fs::write(&path, trace).unwrap();
        let as_meant = ending == Ending::Done;
        self.evidence.runs.push(RunRecord {
            evidence: RunEvidence { name: name.into(), segments: vec![path], repeats: Vec::new() },
            endings: vec![SegmentEnding {
                plan: plan(name),
                ending,
                wall: Duration::ZERO,
                died: false,
                as_meant,
            }],
            complete: true,
        });
        self
    }

    fn judge(&self, expectations: &[Expectation], deterministic: bool) -> Outcome {
        let labels = Labels {
            reproduce: "traintrue run example",
            trace: &|path| path.file_name().unwrap().to_string_lossy().into_owned(),
        };
        let declared = Contract::default();
        let case = Case {
            scenario: "example",
            expectations,
            evidence: &self.evidence,
            declared: &declared,
            deterministic,
            partial: false,
            labels,
        };
        judge(&case)
    }
}

/// A plan that stops where it begins.
fn plan(name: &str) -> Plan {
    Plan { run: name.into(), stop: Some(Stop { epoch: 0, micro_batches: 0, save: None }), ..example() }
}

/// A trace that says nothing but its plan and its end.
fn trace(name: &str) -> Vec<u8> {
    let run = Run {
        schema: 1,
        trainer: "fake 1".into(),
        device: "none".into(),
        scenario: "example".into(),
        run: name.into(),
        plan: plan(name),
        recorded: None,
        contract: Contract::default(),
    };
    let mut text = Vec::new();
    let mut writer = TraceWriter::new(&mut text);
    writer.write(&Event::Run(Box::new(run))).unwrap();
    writer.write(&Event::End(End::new(EndReason::Stopped, None))).unwrap();
    text
}

/// Asks one invariant of the run `again`, held against `once`.
fn of_a_repeat(invariant: &str) -> [Expectation; 1] {
    [Expectation { invariant: invariant.into(), runs: "again".into(), against: Some("once".into()) }]
}

#[test]
fn a_process_that_fails_breaks_protocol_answers_and_nothing_is_learnt_from_its_pair() {
    let failed = Ending::Failed {
        code: Some(1),
        status: "exit status: 1".into(),
        complaint: "no such layer: q".into(),
    };
    let bench = Bench::new().run("once", &trace("once"), Ending::Done).run("again", &trace("again"), failed);
    let outcome = bench.judge(&of_a_repeat("determinism/repeat"), true);
    assert_eq!(outcome.verdict, Verdict::Broken);
    let failed = outcome.findings.iter().find(|finding| finding.invariant == "protocol/answers").unwrap();
    assert_eq!((failed.run.as_str(), failed.actual.as_str()), ("again", "exit status: 1"));
    assert_eq!(failed.line, 2, "the last line of its trace");
    assert!(failed.cause.ends_with("its standard error ends: no such layer: q"));
    assert!(!outcome.compared.contains_key("determinism/repeat"));
}

#[test]
fn garbage_on_standard_output_is_named_with_its_line() {
    let mut garbage = trace("once");
    garbage.extend(b"Epoch 1 done!\n");
    let outcome = Bench::new().run("once", &garbage, Ending::Done).judge(&[], true);
    let finding = outcome.findings.iter().find(|finding| finding.invariant == "protocol/answers").unwrap();
    assert_eq!((finding.line, finding.trace.as_str()), (3, "once.jsonl"));
    assert!(finding.actual.starts_with("once.jsonl:3: not an event"), "{}", finding.actual);
}

#[test]
fn a_trainer_that_follows_another_plan_is_found() {
    let outcome = Bench::new().run("once", &trace("another"), Ending::Done).judge(&[], true);
    let finding = outcome.findings.iter().find(|finding| finding.invariant == "protocol/answers").unwrap();
    assert_eq!((finding.line, finding.actual.as_str()), (1, "another"));
}

#[test]
fn a_state_is_not_named_by_its_bits_where_the_trainer_is_not_deterministic() {
    let bench =
        Bench::new().run("once", &trace("once"), Ending::Done).run("again", &trace("again"), Ending::Done);
    let asked = of_a_repeat("checkpoint/old-or-new");
    let (outcome, other) = (bench.judge(&asked, false), bench.judge(&asked, true));
    assert_eq!(outcome.reason.as_deref(), Some("checkpoint/old-or-new: the trainer is not deterministic"));
    assert_ne!(outcome.reason, other.reason);
}

#[test]
fn an_invariant_that_was_asked_for_and_found_no_run_is_not_judged() {
    let outcome = Bench::new().judge(&of_a_repeat("determinism/repeat"), true);
    assert_eq!(outcome.verdict, Verdict::NotJudged);
    assert_eq!(outcome.reason.as_deref(), Some("determinism/repeat: no run to judge"));
    assert_eq!(Bench::new().judge(&[], true).reason.as_deref(), Some("nothing was compared"));
}
