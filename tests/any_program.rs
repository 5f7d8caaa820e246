//! A trainer in another language through the real binary: what it does right, and each way in which it goes wrong.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

use rstest::rstest;
use traintrue_judge::finding::Finding;
use traintrue_judge::verdict::{Outcome, RunReport, Verdict};

use crate::binary::{Ran, traintrue};
use crate::inputs::{double, repository, scenarios_of_the_double, scripted_trainer};

/// The scenario that the double is made for, judged.
fn judged(bugs: &str, more: &[&str]) -> Ran {
    let (trainer, scenarios) = (double(bugs), scenarios_of_the_double());
    let own = ["run", "two-parameters", "--trainer", &trainer, "--scenarios", &scenarios, "--format", "json"];
    traintrue(&[&own[..], more].concat())
}

fn outcome(ran: Ran, exit: i32) -> Outcome {
    ran.with_exit(exit).document::<RunReport>().outcomes.swap_remove(0)
}

fn broke(outcome: &Outcome) -> BTreeSet<&str> {
    outcome.findings.iter().map(|it| it.invariant.as_str()).collect()
}

#[test]
fn the_right_trainer_is_held_to_everything_that_the_scenario_asks() {
    let outcome = outcome(judged("", &[]), 0);
    let path = Path::new(&scenarios_of_the_double()).join("two-parameters.toml");
    for asked in crate::scenarios::read(&path).expectations {
        assert!(outcome.compared[&asked.invariant] > 0, "{} compared nothing", asked.invariant);
    }
}

#[rstest]
#[case("boundary-from-batch-index", "boundary", &["seam/identical", "window/closes-as-declared"])]
#[case("moments-not-restored", "moments", &["seam/identical"])]
#[case("evaluation-draws", "evaluation", &["evaluation/changes-nothing", "purity/same-trajectory"])]
fn a_bug_in_it_is_named(#[case] bug: &str, #[case] component: &str, #[case] invariants: &[&str]) {
    let outcome = outcome(judged(bug, &[]), 1);
    assert_eq!(broke(&outcome), invariants.iter().copied().collect(), "{outcome:#?}");
    assert!(
        outcome.findings.iter().all(|it| it.component.name() == component && it.line > 0),
        "{outcome:#?}"
    );
}

/// The first finding on the run `once`, and the report that was kept.
fn misbehaved(bug: &str, more: &[&str]) -> (Finding, tempfile::TempDir) {
    let (_repository, config) = repository(bug, "limits = { trace = \"512KiB\" }");
    let kept = tempfile::tempdir().unwrap();
    let to = kept.path().to_str().unwrap();
    let run = ["run", "determinism", "--config", &config, "--report", to, "--format", "json"];
    let outcome = outcome(traintrue(&[&run[..], more].concat()), 1);
    let answers = |it: &Finding| it.invariant == "protocol/answers" && it.run == "once";
    (outcome.findings.into_iter().find(answers).unwrap(), kept)
}

#[rstest]
#[case::crash("crash", &[], "exit status: 9", "its standard error ends: gradients exploded, giving up")]
#[case::hang("hang", &["--timeout", "10"], "still running after 10 s", "hangs, or needs a longer --timeout")]
#[case::half_a_line("half-a-line", &[], "once.jsonl:7: the last line is cut short", "the standard output is not a trace")]
#[case::garbage("garbage", &[], "once.jsonl:7: not an event: ", "the standard output is not a trace")]
#[case::endless("endless", &[], "more than 524288 bytes of trace", "does not stop writing")]
#[case::lie("lies-about-its-plan", &[], "4", "names another plan than the one it was given")]
fn a_misbehaviour_is_one_clear_finding_that_names_run_and_line(
    #[case] bug: &str,
    #[case] more: &[&str],
    #[case] actual: &str,
    #[case] cause: &str,
) {
    let (finding, kept) = misbehaved(bug, more);
    assert!(finding.actual.starts_with(actual), "{finding:#?}");
    assert!(finding.cause.contains(cause), "{finding:#?}");
    let trace = fs::read_to_string(&finding.trace).unwrap();
    // What it did stands in the last line, but for what it said in an earlier one.
    let line = match bug {
        "lies-about-its-plan" => 1,
        "garbage" => 7,
        _ => trace.lines().count() as u64,
    };
    assert_eq!(finding.line, line, "{finding:#?}");
    drop(kept);
}

#[test]
fn a_lie_about_the_plan_names_the_field() {
    let (finding, _kept) = misbehaved("lies-about-its-plan", &[]);
    assert_eq!(finding.expected, "plan.train.accumulation 8, as in the plan that the trainer was given");
}

#[rstest]
#[case("crash", "gradients exploded, giving up\n", &[])]
#[case("hang", "waiting for the other ranks\n", &["--timeout", "10"])]
fn what_a_trainer_writes_to_its_standard_error_is_kept_with_the_report(
    #[case] bug: &str,
    #[case] said: &str,
    #[case] more: &[&str],
) {
    let (_, kept) = misbehaved(bug, more);
    let path = kept.path().join("traces/determinism/once.stderr");
    assert_eq!(fs::read_to_string(path).unwrap(), said);
}

#[test]
fn a_trainer_that_cannot_describe_itself_is_quoted() {
    let trainer = double("no-description");
    let ran = traintrue(&["run", "determinism", "--trainer", &trainer]).with_exit(2);
    assert!(ran.stderr.contains("ended with exit status: 1; expected one line of JSON"), "{}", ran.stderr);
    let quoted = "its standard error ends: ImportError: No module named 'torch' (before it: Traceback";
    assert!(ran.stderr.contains(quoted), "{}", ran.stderr);
}

#[rstest]
#[case::says_so("noise not-deterministic", Verdict::Held)]
#[case::is_shown_to_be("noise", Verdict::Held)]
#[case::and_has_a_bug("noise not-deterministic moments-not-restored", Verdict::Broken)]
#[case::and_another("noise boundary-from-batch-index", Verdict::Broken)]
fn noise_is_no_bug_and_hides_none(#[case] bugs: &str, #[case] verdict: Verdict) {
    let report: RunReport = judged(bugs, &[]).document();
    assert_eq!(report.outcomes[0].verdict, verdict, "{:#?}", report.outcomes[0]);
    assert!(report.outcomes[0].counted["repeats"] > 0);
}

#[test]
fn noise_that_is_not_declared_breaks_determinism_alone() {
    let trainer = double("noise");
    let ran = traintrue(&["run", "determinism", "--trainer", &trainer, "--format", "json"]);
    assert_eq!(broke(&outcome(ran, 1)), ["determinism/repeat"].into());
}

/// A trainer that notes when it begins and ends, and what it does between.
fn noted(between: &str, jobs: &str) -> (String, Finding) {
    let log = tempfile::NamedTempFile::new().unwrap();
    let path = log.path().display().to_string();
    let between = between.replace("LOG", &path);
    let noted = format!("echo begin >> {path}; {between}; echo end >> {path}; exit 9");
    let trainer = scripted_trainer(&noted);
    let asked = ["run", "determinism", "--trainer", &trainer.command, "--jobs", jobs, "--timeout", "30"];
    let mut outcome = outcome(traintrue(&[&asked[..], &["--format", "json"]].concat()), 1);
    (fs::read_to_string(log.path()).unwrap(), outcome.findings.swap_remove(0))
}

#[test]
fn one_job_is_one_process_at_a_time() {
    let (log, _) = noted("sleep 0.2", "1");
    assert_eq!(log, "begin\nend\nbegin\nend\n");
}

#[test]
fn two_jobs_are_two() {
    // Each waits for the other: one at a time, they would be killed.
    let (_, finding) = noted("until [ \"$(grep -c begin LOG)\" = 2 ]; do sleep 0.05; done", "2");
    assert_eq!(finding.actual, "exit status: 9");
}

#[test]
fn a_seed_is_one_random_plan_and_no_other() {
    let plan = |seed: &[&str]| {
        let kept = tempfile::tempdir().unwrap();
        let trainer = double("");
        let run = ["run", "determinism", "--trainer", &trainer, "--report", kept.path().to_str().unwrap()];
        traintrue(&[&run[..], seed].concat()).with_exit(0);
        let trace = fs::read_to_string(kept.path().join("traces/determinism/once.jsonl")).unwrap();
        let run: serde_json::Value = serde_json::from_str(trace.lines().next().unwrap()).unwrap();
        run["plan"].clone()
    };
    let (written, five) = (plan(&[]), plan(&["--seed", "5"]));
    assert_eq!(five, plan(&["--seed", "5"]));
    assert_ne!(five["seed"], plan(&["--seed", "6"])["seed"]);
    assert_ne!(five["seed"], written["seed"]);
}
