//! Every scenario file is a test of its own: the reference trainer holds it, and everything that it asks for was compared.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use rstest::rstest;
use traintrue::check::Relation;
use traintrue::scenario::{Catalogue, Scenario};
use traintrue_judge::rule::Kind;
use traintrue_judge::rules::RULES;
use traintrue_judge::verdict::{RunReport, Verdict};

use crate::binary::traintrue;
use crate::tidy;

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

/// A rule that nothing asks for would be listed and explained, and never judged.
#[test]
fn every_rule_is_judged_by_something() {
    let catalogue = Catalogue::load(None).unwrap();
    let of_scenarios = catalogue.all().iter().flat_map(|it| &it.expectations).map(|it| it.invariant.as_str());
    let of_check = [Relation::Seam, Relation::Equal, Relation::Partition].map(|it| it.rule().name);
    let asked: BTreeSet<&str> = of_scenarios.chain(of_check).collect();
    let judged = judged_by_name();
    let unreachable = |kind: &Kind, name: &str| match kind {
        // Every trace is judged by these, whatever its scenario asks for.
        Kind::Trace(_) => false,
        Kind::Run(_) | Kind::Pair(_) | Kind::Ranks(_) => !asked.contains(name),
        Kind::Process | Kind::Artefact => !judged.contains(name),
    };
    let left: Vec<&str> =
        RULES.iter().filter(|it| unreachable(&it.kind, it.name)).map(|it| it.name).collect();
    assert_eq!(left, [""; 0]);
}

/// The rules that some code beside the register names, as `&log::RULE`.
fn judged_by_name() -> BTreeSet<&'static str> {
    let sources = tidy::sources();
    let (register, others): (Vec<_>, Vec<_>) =
        sources.iter().partition(|(path, _)| path.ends_with("judge/src/rules.rs"));
    let statics: Vec<&str> =
        register[0].1.lines().filter_map(|line| line.trim().strip_prefix('&')?.strip_suffix(',')).collect();
    assert_eq!(statics.len(), RULES.len(), "one line a rule");
    let named = |path: &str| {
        let (module, name) = path.rsplit_once("::").unwrap();
        let short = format!("&{}::{name},", module.rsplit("::").next().unwrap());
        others.iter().any(|(_, text)| text.contains(&short))
    };
    statics.iter().zip(RULES).filter(|(path, _)| named(path)).map(|(_, rule)| rule.name).collect()
}
