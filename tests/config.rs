//! What a repository says of its trainer in traintrue.toml, through the real binary.

use std::fs;

use rstest::rstest;
use traintrue_judge::verdict::{RunReport, Verdict};

use crate::binary::{traintrue, traintrue_in};
use crate::inputs::{double, own_scenario, repository, scenarios_of_the_double};

const RUN: [&str; 4] = ["run", "two-parameters", "--format", "json"];

#[test]
fn the_file_of_the_working_directory_names_trainer_and_scenarios() {
    let (folder, _) = repository("", "");
    let report: RunReport = traintrue_in(folder.path(), &RUN).with_exit(0).document();
    assert_eq!((report.trainer.as_str(), report.summary.held), ("two-parameters 1.0", 1));
}

#[test]
fn the_command_line_goes_over_the_file() {
    let (folder, _) = repository("crash", "");
    let trainer = double("");
    traintrue_in(folder.path(), &[&RUN[..], &["--trainer", &trainer]].concat()).with_exit(0);
}

#[test]
fn a_fault_is_planted_in_the_reference_trainer_whatever_the_file_says() {
    let (folder, _) = repository("crash", "");
    let run = ["run", "determinism", "--fault", "unseeded-order", "--format", "json"];
    let report: RunReport = traintrue_in(folder.path(), &run).with_exit(1).document();
    assert!(report.trainer.starts_with("traintrue-reference"), "{}", report.trainer);
}

#[test]
fn what_is_stated_stands_in_place_of_the_trainers_own_words_and_is_printed() {
    let config = |stated: &str| {
        let (folder, path) = repository("noise", "");
        let text = fs::read_to_string(&path).unwrap();
        fs::write(&path, format!("{text}contract = {stated}\n")).unwrap();
        folder
    };
    let run = ["run", "determinism", "--format", "json"];
    let folder = config("{ deterministic = false }");
    let report: RunReport = traintrue_in(folder.path(), &run).with_exit(0).document();
    assert!(!report.contract.deterministic);
    assert_eq!(report.notes, ["stated in traintrue.toml: deterministic false"]);
    let text = traintrue_in(folder.path(), &run[..2]).with_exit(0).stdout;
    assert!(text.contains(", not deterministic\nstated in traintrue.toml: deterministic false\n"), "{text}");

    let folder = config("{ tail = \"carry\", deterministic = false }");
    let report: RunReport = traintrue_in(folder.path(), &run).with_exit(1).document();
    let broke = &report.outcomes[0].findings[0];
    assert_eq!(broke.invariant, "window/closes-as-declared", "it flushes: {broke:#?}");
}

const SEAM: &str =
    "[[waive]]\ninvariant = \"seam/identical\"\nreason = \"the moments are not saved yet\"\nuntil = ";
const HELD: &str = "[[waive]]\nscenario = \"two-parameters\"\nreason = \"slow\"\nuntil = 2999-12-31\n";

#[rstest]
#[case::used("moments-not-restored", &format!("{SEAM}2999-12-31"), 0, Verdict::Waived, "")]
#[case::expired("moments-not-restored", &format!("{SEAM}2020-01-01"), 1, Verdict::Broken, "delete the [[waive]] at line 2")]
#[case::unused("", HELD, 1, Verdict::Held, "delete the [[waive]] at line 2")]
#[case::of_another_bug("boundary-from-batch-index", &format!("{SEAM}2999-12-31"), 1, Verdict::Broken, "")]
fn a_known_failure_does_not_redden_and_a_stale_waiver_does(
    #[case] bug: &str,
    #[case] waives: &str,
    #[case] exit: i32,
    #[case] verdict: Verdict,
    #[case] stale: &str,
) {
    let (folder, _) = repository(bug, waives);
    let report: RunReport = traintrue_in(folder.path(), &RUN).with_exit(exit).document();
    assert_eq!(report.outcomes[0].verdict, verdict, "{:#?}", report.outcomes[0]);
    let said = report.outcomes.get(1).map_or("", |outcome| outcome.findings[0].cause.as_str());
    assert_eq!(said.is_empty(), stale.is_empty(), "{said}");
    assert!(said.contains(stale), "{said}");
}

#[rstest]
#[case::no_reason(
    "[[waive]]\nscenario = \"determinism\"\nuntil = 2999-12-31\n",
    "traintrue.toml:2: missing field `reason`"
)]
#[case::misspelt(
    "[[waive]]\ninvariant = \"seam/identicle\"\nreason = \"r\"\nuntil = 2999-12-31\n",
    "traintrue.toml:2: waive.invariant: nothing is called \"seam/identicle\"; nearest: seam/identical"
)]
#[case::unknown_key("catalog = \"0.1\"", "traintrue.toml:2: unknown field `catalog`")]
#[case::no_limit("limits = { jobs = 0 }", "traintrue.toml:2: ")]
fn a_file_that_cannot_be_used_is_exit_2(#[case] more: &str, #[case] message: &str) {
    let (folder, _) = repository("", more);
    for verb in [&RUN[..], &["check", "no-such.jsonl"]] {
        let ran = traintrue_in(folder.path(), verb).with_exit(2);
        assert!(ran.stderr.starts_with(&format!("traintrue: {message}")), "{}", ran.stderr);
    }
}

#[rstest]
#[case::listed(&["list"])]
#[case::explained(&["explain", "two-parameters"])]
fn scenarios_that_the_file_names_are_shown(#[case] verb: &[&str]) {
    let (folder, _) = repository("", "");
    let ran = traintrue_in(folder.path(), verb).with_exit(0);
    assert!(ran.stdout.contains("two-parameters"), "{}", ran.stdout);
}

#[test]
fn what_is_waived_stays_in_every_report() {
    let (folder, _) = repository("moments-not-restored", &format!("{SEAM}2999-12-31"));
    let kept = folder.path().join("report");
    let ran = traintrue_in(folder.path(), &["run", "two-parameters", "--report", "report"]).with_exit(0);
    let waived = "waived: the moments are not saved yet until 2999-12-31";
    let read = |name: &str| fs::read_to_string(kept.join(name)).unwrap();
    let reports = ["junit.xml", "report.html", "summary.md", "results.sarif"].map(|name| (name, read(name)));
    for (name, text) in reports.iter().chain([&("text", ran.stdout)]) {
        assert!(text.contains(waived), "{name}: {text}");
    }
    assert!(read("report.json").contains("\"reason\": \"the moments are not saved yet\""));

    let traces = kept.join("traces/two-parameters");
    let trace = |name: &str| traces.join(name).display().to_string();
    let scenarios = scenarios_of_the_double();
    let check = [
        "check".into(),
        "--scenarios".into(),
        scenarios,
        trace("whole.jsonl"),
        trace("cut-6.1.jsonl"),
        trace("cut-6.2.jsonl"),
    ];
    traintrue_in(folder.path(), &check).with_exit(0);
    traintrue(&check).with_exit(1);
}

#[test]
fn a_scenario_that_is_newer_than_the_pin_is_named_and_not_run() {
    let newer = own_scenario("mine", |text| text.replace("order = 110", "since = \"0.2.0\""));
    let scenarios = newer.path().to_str().unwrap();
    let (folder, _) = repository("", "catalogue = \"0.1\"");
    let run = ["run", "determinism", "--scenarios", scenarios, "--format", "json"];
    let report: RunReport = traintrue_in(folder.path(), &run).with_exit(0).document();
    assert_eq!(report.notes, ["newer than catalogue 0.1, and not run: mine"]);
    assert_eq!(report.outcomes.len(), 1);
}
