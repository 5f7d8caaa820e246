//! The results about others' trainers: every verdict follows from the traces that are kept beside it.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::{Path, PathBuf};

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
    /// Runs whose traces are not kept: the verdict follows without them.
    #[serde(default)]
    left_out: BTreeSet<String>,
}

/// What one result may take, so that the folder of all can grow with every release.
const BYTES_MOST: u64 = 200_000;

/// Unpacks an archive of traces into `to`. They are packed together: runs of one plan repeat each other.
fn unpack(archive: &Path, to: &Path) {
    let mut tar = Vec::new();
    lzma_rs::xz_decompress(&mut fs::read(archive).unwrap().as_slice(), &mut tar).unwrap();
    tar::Archive::new(tar.as_slice()).unpack(to).unwrap();
}

/// The traces in a folder.
fn traces(folder: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(folder) else { return Vec::new() };
    let mut traces: Vec<PathBuf> = entries.map(|entry| entry.unwrap().path()).collect();
    traces.sort();
    traces
}

/// The bytes of a folder.
fn size(folder: &Path) -> u64 {
    let entries = fs::read_dir(folder).unwrap().map(|entry| entry.unwrap());
    entries.map(|it| if it.path().is_dir() { size(&it.path()) } else { it.metadata().unwrap().len() }).sum()
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
    let scratch = tempfile::tempdir().unwrap();
    unpack(&folder.join("traces.tar.xz"), scratch.path());
    for kept in &results.outcomes {
        let scenario = catalogue.find(&kept.scenario).expect("a scenario of the catalogue");
        let has = |need: &&Capability| results.description.capabilities.contains(need);
        if let Some(lacking) = scenario.needs.iter().find(|need| !has(need)) {
            let reason = Some(format!("no {lacking}"));
            assert_eq!((kept.verdict, &kept.reason), (Verdict::NotJudged, &reason), "{}", kept.scenario);
            continue;
        }
        let traces = traces(&scratch.path().join(&kept.scenario));
        assert!(!traces.is_empty(), "{}: no trace is kept", kept.scenario);
        let report = check(&traces, None, &catalogue, &[]).unwrap();
        let (verdict, broke) = together(&report.outcomes, scenario);
        assert_eq!((verdict, &broke), (kept.verdict, &kept.broke), "{}", kept.scenario);
    }
}

#[rstest]
fn a_result_is_small(#[files("golden/results/*/results.json")] path: PathBuf) {
    let bytes = size(path.parent().unwrap());
    assert!(bytes <= BYTES_MOST, "{bytes} bytes, at most {BYTES_MOST}");
}

#[rstest]
fn a_result_has_a_page_that_names_its_scenarios(#[files("golden/results/*/results.json")] path: PathBuf) {
    let results: Results = serde_json::from_str(&fs::read_to_string(&path).unwrap()).unwrap();
    // Not `with_extension`: a name ends in a version, whose point is no extension.
    let page = fs::read_to_string(format!("{}.md", path.parent().unwrap().display())).unwrap();
    for kept in &results.outcomes {
        assert!(page.contains(&format!("`{}`", kept.scenario)), "{}", kept.scenario);
        let named = kept.broke.iter().chain(&kept.left_out);
        assert!(named.into_iter().all(|name| page.contains(name.as_str())), "{}", kept.scenario);
    }
    assert!(page.contains(&results.command));
}
