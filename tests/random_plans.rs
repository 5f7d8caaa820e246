//! No false alarm: the clean trainer holds every scenario on random plans, too.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;

use rstest::rstest;
use traintrue::program::Program;
use traintrue::runner::{Happening, Observer, Runner};
use traintrue::scenario::{Corpus, RunSpec, Scenario, randomised};
use traintrue::suite::Suite;
use traintrue_judge::verdict::Verdict;

use crate::scenarios::read;

/// Plans of each scenario in the ordinary run: twelve scenarios make more than 200.
const PLANS: u64 = 17;

/// And in the long one, more than 2,000.
const MANY_PLANS: u64 = 170;

/// Runs over more samples are left to the written plans: random ones are to be many.
const SAMPLES_MOST: u64 = 500;

#[rstest]
fn random_clean_plans_hold(#[files("scenarios/*.toml")] path: PathBuf) {
    hold(&path, PLANS);
}

#[rstest]
#[ignore = "takes many minutes"]
fn many_random_clean_plans_hold(#[files("scenarios/*.toml")] path: PathBuf) {
    hold(&path, MANY_PLANS);
}

#[test]
fn a_small_scenario_keeps_its_runs_and_a_long_one_its_short_ones() {
    let runs = |id: &str| {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("scenarios/{id}.toml"));
        let random = randomised(&read(&path), 1);
        (small(random.clone()).runs.len(), random.runs.len())
    };
    let (kept, all) = runs("determinism");
    assert_eq!(kept, all);
    let (kept, all) = runs("scheduler-steps");
    assert!((5..all).contains(&kept), "{kept} of {all}");
}

struct Silence;

impl Observer for Silence {
    fn see(&self, _: Happening<'_>) {}
}

/// Runs one seed after another until so many plans have held.
fn hold(path: &Path, least: u64) {
    let scenario = read(path);
    let words = |verb: &str| vec![OsString::from(env!("CARGO_BIN_EXE_traintrue")), OsString::from(verb)];
    let program = Program::new(words("describe"), words("train"));
    let timeout = Duration::from_secs(300);
    let description = program.describe(timeout).unwrap();
    let corpus = Corpus::shipped().unwrap();
    let scratch = tempfile::tempdir().unwrap();
    let capabilities = &description.capabilities;
    let suite = Suite {
        description: &description,
        corpus: &corpus,
        runner: Runner { program: &program, capabilities, timeout, observer: &Silence },
        scratch: scratch.path(),
        report: None,
        arguments: &[],
    };
    let (mut seed, mut plans) = (0, 0);
    while plans < least {
        seed += 1;
        let report = suite.run(&[small(randomised(&scenario, seed))]).unwrap();
        let outcome = &report.outcomes[0];
        assert_eq!(
            outcome.verdict,
            Verdict::Held,
            "traintrue run {} --seed {seed}: {outcome:#?}",
            scenario.id
        );
        plans += outcome.counted["runs"];
    }
}

/// The scenario without its long runs.
fn small(mut scenario: Scenario) -> Scenario {
    let is_small =
        |run: &RunSpec| scenario.plan_spec(run).is_ok_and(|spec| spec.data.samples <= SAMPLES_MOST);
    let runs = scenario.runs.iter().filter(|run| is_small(run)).cloned().collect();
    scenario.runs = runs;
    scenario
}
