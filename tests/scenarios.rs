//! Every scenario file is a test of its own: the reference trainer holds it, and everything that it asks for was compared.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rstest::rstest;
use traintrue::scenario::{Catalogue, Scenario};
use traintrue_judge::verdict::{RunReport, Verdict};

use crate::binary::traintrue;

/// The scenario of a file, as the file has it.
pub fn read(path: &Path) -> Scenario {
    Scenario::parse(path, &std::fs::read_to_string(path).unwrap()).unwrap()
}

#[rstest]
fn the_reference_trainer_holds(#[files("scenarios/*.toml")] path: PathBuf) {
    let scenario = read(&path);
    let report: RunReport = traintrue(&["run", &scenario.id, "--format", "json"]).with_exit(0).document();
    let outcome = report.outcomes.iter().find(|outcome| outcome.scenario == scenario.id).unwrap();
    assert_eq!(outcome.verdict, Verdict::Held, "{outcome:#?}");
    for asked in &scenario.expectations {
        let compared = outcome.compared.get(&asked.invariant).copied().unwrap_or(0);
        assert!(compared > 0, "{} compared nothing", asked.invariant);
    }
}

#[test]
fn the_catalogue_in_the_binary_is_the_folder() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    let files = std::fs::read_dir(folder).unwrap().map(|entry| entry.unwrap().path());
    let in_folder: BTreeSet<String> = files
        .filter(|path| path.extension().is_some_and(|extension| extension == "toml"))
        .map(|path| read(&path).id)
        .collect();
    let catalogue = Catalogue::load(None).unwrap();
    let in_binary: BTreeSet<String> = catalogue.all().iter().map(|scenario| scenario.id.clone()).collect();
    assert!(!in_folder.is_empty());
    assert_eq!(in_binary, in_folder);
}

#[test]
fn each_scenario_in_the_binary_is_its_file() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios");
    for shipped in Catalogue::load(None).unwrap().all() {
        assert_eq!(*shipped, read(&folder.join(format!("{}.toml", shipped.id))), "rebuild the binary");
    }
}
