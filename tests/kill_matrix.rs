//! The kill matrix as a table test: each fault is caught by the invariants that must catch it, by nothing unlisted, and as
//! the golden matrix has it.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rstest::rstest;
use traintrue::kill_matrix::{Fate, FaultReport, GoldenRow, compare};
use traintrue::scenario::Catalogue;
use traintrue_judge::rule::{Kind, Rule};
use traintrue_judge::rules::RULES;
use traintrue_judge::verdict::Verdict;
use traintrue_protocol::trace::recorded::Fact;

use crate::binary::traintrue;
use crate::scenarios::read;

/// Invariants that no planted fault must break, and what shows that they can fail.
const BROKEN_ELSEWHERE: [(&str, &str); 1] = [
    // A fault is a wrong part of a trainer; this is about a trainer that stops speaking.
    ("protocol/ends", "the traces beside the invariant, and tests/bad_input.rs"),
];

fn golden() -> PathBuf {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("golden/kill-matrix.json");
    assert!(
        path.exists(),
        "{}: missing; look at the matrix and run `traintrue accept matrix`",
        path.display()
    );
    path
}

#[rstest]
fn each_fault_is_caught_by_what_must_catch_it(#[files("scenarios/*.toml")] path: PathBuf) {
    let scenario = read(&path);
    if scenario.faults.is_empty() {
        return;
    }
    let ran = traintrue(&["faults", &scenario.id, "--random-plans", "0", "--format", "json"]);
    let report: FaultReport = ran.document();
    assert_eq!(report.baseline, Verdict::Held);
    for planned in &scenario.faults {
        let row = report.faults.iter().find(|row| row.fault == planned.id).unwrap();
        let broke: BTreeSet<&String> = row.broke.iter().collect();
        let must: BTreeSet<&String> = planned.must.iter().collect();
        let known: BTreeSet<&String> = planned.must.iter().chain(&planned.may).collect();
        assert!(must.is_subset(&broke), "missed: {row:#?}");
        assert!(broke.is_subset(&known), "noisy: {row:#?}");
        assert_eq!(row.component, planned.component.name(), "{row:#?}");
        assert_eq!(row.verdict, Fate::Caught, "{row:#?}");
    }
    assert_eq!(
        compare(&golden(), &report.faults, false).unwrap(),
        [""; 0],
        "look, and run `traintrue accept matrix`"
    );
    ran.with_exit(0);
}

#[test]
fn every_planted_fault_is_planned_and_every_planned_one_can_be_planted() {
    let planted: BTreeSet<String> = traintrue_reference::faults().into_iter().map(str::to_owned).collect();
    let planned: BTreeSet<String> =
        Catalogue::load(None).unwrap().faults().map(|(_, fault)| fault.id.clone()).collect();
    assert_eq!(planted, planned);
}

#[test]
fn the_golden_matrix_has_every_planned_fault_and_no_other() {
    let rows: Vec<GoldenRow> = serde_json::from_slice(&std::fs::read(golden()).unwrap()).unwrap();
    let rows: BTreeSet<String> = rows.into_iter().map(|row| row.fault).collect();
    let planned: BTreeSet<String> =
        Catalogue::load(None).unwrap().faults().map(|(_, fault)| fault.id.clone()).collect();
    assert_eq!(rows, planned, "run `traintrue accept matrix`");
}

#[test]
fn every_invariant_is_one_that_some_fault_must_break() {
    let catalogue = Catalogue::load(None).unwrap();
    let must: BTreeSet<&str> =
        catalogue.faults().flat_map(|(_, fault)| &fault.must).map(String::as_str).collect();
    // No trainer is run where files or recorded loops are judged: what breaks each of these stands beside it, and in
    // tests/check_artefacts.rs and tests/python.rs.
    let of_plans =
        |rule: &&&Rule| !matches!(rule.kind, Kind::Artefact) && !rule.needs.contains(&Fact::Observed);
    let of_runs = RULES.iter().filter(of_plans);
    let never: BTreeSet<&str> = of_runs.map(|rule| rule.name).filter(|it| !must.contains(it)).collect();
    assert_eq!(never, BROKEN_ELSEWHERE.into_iter().map(|(name, _)| name).collect());
}
