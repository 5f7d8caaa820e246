//! The results about others' trainers: every verdict follows from the traces that are kept beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::{fs, io};

use flate2::read::GzDecoder;
use rstest::rstest;
use serde::Deserialize;
use traintrue::check::check;
use traintrue::scenario::{Catalogue, Scenario};
use traintrue::vocabulary::Capability;
use traintrue_judge::expectation::Expectation;
use traintrue_judge::verdict::{Outcome, Verdict};
use traintrue_protocol::contract::Description;

/// `results.json`; its fields are told in golden/results/README.md.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Results {
    schema: u32,
    name: String,
    versions: BTreeMap<String, String>,
    command: String,
    description: Description,
    outcomes: Vec<Kept>,
}

#[derive(Debug, PartialEq, Deserialize)]
#[serde(deny_unknown_fields)]
struct Kept {
    scenario: String,
    verdict: Verdict,
    reason: Option<String>,
    broke: BTreeSet<String>,
}

/// The traces under `folder`, unpacked into `to`.
fn unpacked(folder: &Path, to: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut packed: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    packed.sort();
    let unpack = |path: PathBuf| {
        let trace = to.join(path.file_stem().unwrap());
        let mut from = GzDecoder::new(fs::File::open(&path).unwrap());
        io::copy(&mut from, &mut fs::File::create(&trace).unwrap()).unwrap();
        trace
    };
    packed.into_iter().map(unpack).collect()
}

/// One scenario's verdict and what broke, from what was found in each of its traces. An invariant that the scenario asks for
/// and that compared nothing in any of them is not judged.
fn together(outcomes: &[Outcome], scenario: &Scenario) -> (Verdict, BTreeSet<String>) {
    let compared = |asked: &Expectation| outcomes.iter().any(|it| it.compared.contains_key(&asked.invariant));
    let silent = scenario.expectations.iter().any(|asked| !compared(asked));
    let least = if silent { Verdict::NotJudged } else { Verdict::Held };
    let verdict = outcomes.iter().map(|outcome| outcome.verdict).fold(least, Ord::max);
    let findings = outcomes.iter().flat_map(|outcome| &outcome.findings);
    (verdict, findings.map(|finding| finding.invariant.clone()).collect())
}

#[rstest]
fn a_result_follows_from_its_traces(#[files("golden/results/*/results.json")] path: PathBuf) {
    let results: Results = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    let folder = path.parent().unwrap();
    assert_eq!((results.schema, folder.file_name().unwrap().to_str().unwrap()), (1, results.name.as_str()));
    assert!(!results.outcomes.is_empty() && !results.versions.is_empty() && !results.command.is_empty());
    // A result's own, or else those that the results share.
    let own =
        [folder.join("scenarios"), folder.with_file_name("scenarios")].into_iter().find(|own| own.is_dir());
    let catalogue = Catalogue::load(own.as_deref()).unwrap();
    for kept in &results.outcomes {
        let scenario = catalogue.find(&kept.scenario).expect("a scenario of the catalogue");
        let has = |need: &&Capability| results.description.capabilities.contains(need);
        if let Some(lacking) = scenario.needs.iter().find(|need| !has(need)) {
            let reason = Some(format!("no {lacking}"));
            assert_eq!((kept.verdict, &kept.reason), (Verdict::NotJudged, &reason), "{}", kept.scenario);
            continue;
        }
        let scratch = tempfile::tempdir().unwrap();
        let traces = unpacked(&folder.join("traces").join(&kept.scenario), scratch.path());
        assert!(!traces.is_empty(), "{}: no trace is kept", kept.scenario);
        let report = check(&traces, None, &catalogue, &[]).unwrap();
        let (verdict, broke) = together(&report.outcomes, scenario);
        assert_eq!((verdict, &broke), (kept.verdict, &kept.broke), "{}", kept.scenario);
    }
}

#[rstest]
fn a_result_has_a_page_that_names_its_scenarios(#[files("golden/results/*/results.json")] path: PathBuf) {
    let results: Results = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    // Not `with_extension`: a name ends in a version, whose point is no extension.
    let page = fs::read_to_string(format!("{}.md", path.parent().unwrap().display())).unwrap();
    for kept in &results.outcomes {
        assert!(page.contains(&format!("`{}`", kept.scenario)), "{}", kept.scenario);
        assert!(kept.broke.iter().all(|name| page.contains(name.as_str())), "{}", kept.scenario);
    }
    assert!(page.contains(&results.command));
}
