//! The kill matrix: every planted fault against the invariants that must catch it.
//!
//! A fault is planted in every run of its set, the run that others are held against included: a user's broken trainer is
//! broken in both.

mod fate;
mod fingerprint;
mod golden;

use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;

use rayon::prelude::*;
use traintrue_judge::expectation::selects;
use traintrue_judge::verdict::{Outcome, Verdict};

use crate::program::Program;
use crate::runner::{Happening, Runner};
use crate::scenario::{PlannedFault, Scenario, expand, randomised};
use crate::suite::{Examined, Purpose, Suite, SuiteError};

pub use fate::{Fate, FaultOutcome, FaultReport, Share};
pub use golden::{GoldenError, GoldenRow, accept, compare};

/// Plants faults and sees what catches them.
pub struct Lab<'a> {
    /// The clean trainer, and everything that scenarios are run with.
    pub suite: Suite<'a>,
    /// The trainer with one fault.
    pub faulty: &'a (dyn Fn(&str) -> Program + Sync),
    /// How many random plans each fault is tried on beside the written one.
    pub random_plans: u64,
    /// Only this fault, where it is given.
    pub only: Option<&'a str>,
}

/// The matrix, and the outcomes of the clean trainer that it rests on.
pub struct Matrix {
    /// The document.
    pub report: FaultReport,
    /// The clean trainer's outcomes.
    pub baseline: Vec<Outcome>,
}

/// One fault and what it is tried on.
struct Trial<'a> {
    scenario: &'a Scenario,
    fault: &'a PlannedFault,
    /// What the clean trainer's traces looked like, by file name.
    clean: &'a BTreeMap<String, String>,
}

impl Lab<'_> {
    /// Judges the clean trainer, and where it holds tries every fault of `scenarios`, in order.
    pub fn run(&self, scenarios: &[Scenario]) -> Result<Matrix, SuiteError> {
        let suite = &self.suite;
        let clean = scenarios.par_iter().map(|scenario| {
            let examined =
                suite.examine(scenario, &scenario.id, &[], Purpose::Trial(fingerprint::fingerprint))?;
            suite.runner.observer.see(Happening::Judged(&examined.outcome));
            Ok(examined)
        });
        let clean = clean.collect::<Result<Vec<_>, SuiteError>>()?;
        let baseline = clean.iter().map(|it| it.outcome.verdict).max().unwrap_or(Verdict::NotJudged);
        let faults = match baseline {
            Verdict::Broken => Vec::new(),
            _ => self.faults(scenarios, &clean)?,
        };
        let report = FaultReport::new(baseline, faults);
        Ok(Matrix { report, baseline: clean.into_iter().map(|it| it.outcome).collect() })
    }

    fn faults(&self, scenarios: &[Scenario], clean: &[Examined]) -> Result<Vec<FaultOutcome>, SuiteError> {
        let mut trials = Vec::new();
        for (scenario, clean) in scenarios.iter().zip(clean) {
            // Where the clean trainer could not be judged there is nothing for a fault to break.
            if clean.outcome.verdict != Verdict::Held {
                continue;
            }
            let faults = scenario.faults.iter().filter(|fault| self.only.is_none_or(|only| fault.id == only));
            trials.extend(faults.map(|fault| Trial { scenario, fault, clean: &clean.seen }));
        }
        trials.par_iter().map(|trial| self.try_fault(trial)).collect()
    }

    fn try_fault(&self, trial: &Trial) -> Result<FaultOutcome, SuiteError> {
        let Trial { scenario, fault, clean } = trial;
        let examined = self.examine(scenario, fault, &fault.id)?;
        let broke = broken(&examined.outcome);
        let component =
            examined.outcome.findings.iter().find(|finding| fault.must.contains(&finding.invariant));
        let verdict = match fate(fault, &broke, examined.timed_out) {
            Fate::Missed if unchanged(&examined.seen, clean) => Fate::Unviable,
            fate => fate,
        };
        let random = self.random(scenario, fault)?;
        self.suite.runner.observer.see(Happening::Tried { fault: &fault.id });
        Ok(FaultOutcome {
            fault: fault.id.clone(),
            class: scenario.class.clone(),
            scenario: scenario.id.clone(),
            verdict,
            expected: fault.must.clone(),
            may: fault.may.clone(),
            broke: broke.into_iter().collect(),
            component: component.map(|finding| finding.component.to_string()).unwrap_or_default(),
            random,
        })
    }

    /// On how many random plans the fault is caught.
    fn random(&self, scenario: &Scenario, fault: &PlannedFault) -> Result<Option<Share>, SuiteError> {
        if self.random_plans == 0 {
            return Ok(None);
        }
        let mut share = Share { caught: 0, tried: self.random_plans };
        for seed in 1..=self.random_plans {
            let scenario = randomised(scenario, seed);
            let Some(fault) = scenario.faults.iter().find(|it| it.id == fault.id) else {
                continue;
            };
            let examined = self.examine(&scenario, fault, &format!("{}-{seed}", fault.id))?;
            let broke = broken(&examined.outcome);
            share.caught += u64::from(fate(fault, &broke, examined.timed_out) == Fate::Caught);
        }
        Ok(Some(share))
    }

    fn examine(&self, scenario: &Scenario, fault: &PlannedFault, name: &str) -> Result<Examined, SuiteError> {
        let program = (self.faulty)(&fault.id);
        let runner = Runner { program: &program, ..self.suite.runner };
        let suite = Suite { runner, ..self.suite };
        let wanted = self.wanted(scenario, fault)?;
        suite.examine(scenario, name, &wanted, Purpose::Trial(fingerprint::fingerprint))
    }

    /// The runs that the fault names, and those that they are held against; none where it names none, which is all.
    fn wanted(&self, scenario: &Scenario, fault: &PlannedFault) -> Result<Vec<String>, SuiteError> {
        if fault.runs.is_empty() {
            return Ok(Vec::new());
        }
        let expansion = expand(scenario, self.suite.corpus, Path::new(""))?;
        let names: Vec<&str> = expansion.runs.iter().map(|run| run.name.as_str()).collect();
        let mut wanted: BTreeSet<&str> =
            names.iter().copied().filter(|name| fault.runs.iter().any(|it| selects(it, name))).collect();
        let named = wanted.clone();
        for asked in &scenario.expectations {
            if named.iter().any(|name| selects(&asked.runs, name)) {
                let against = asked.against.as_deref();
                wanted.extend(names.iter().filter(|name| against.is_some_and(|it| selects(it, name))));
            }
        }
        Ok(wanted.into_iter().map(str::to_owned).collect())
    }
}

fn broken(outcome: &Outcome) -> BTreeSet<String> {
    outcome.findings.iter().map(|finding| finding.invariant.clone()).collect()
}

fn fate(fault: &PlannedFault, broke: &BTreeSet<String>, timed_out: bool) -> Fate {
    let known = |name: &String| fault.must.contains(name) || fault.may.contains(name);
    if timed_out {
        Fate::Timeout
    } else if !fault.must.iter().all(|name| broke.contains(name)) {
        Fate::Missed
    } else if broke.iter().all(known) {
        Fate::Caught
    } else {
        Fate::Noisy
    }
}

/// True where every trace of the faulty trainer is one of the clean trainer.
fn unchanged(faulty: &BTreeMap<String, String>, clean: &BTreeMap<String, String>) -> bool {
    faulty.iter().all(|(name, fingerprint)| clean.get(name) == Some(fingerprint))
}

#[cfg(test)]
mod tests {
    use traintrue_protocol::vocabulary::Component;

    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(&["a/1", "b/2"], false, Fate::Caught)]
    #[case(&["a/1", "b/2", "c/3"], false, Fate::Caught)]
    #[case(&["a/1", "c/3"], false, Fate::Missed)]
    #[case(&["a/1", "b/2", "d/4"], false, Fate::Noisy)]
    #[case(&["a/1", "b/2"], true, Fate::Timeout)]
    #[case(&[], false, Fate::Missed)]
    fn a_fault_is_caught_by_all_that_must_and_by_nothing_unlisted(
        #[case] broke: &[&str],
        #[case] timed_out: bool,
        #[case] expected: Fate,
    ) {
        let fault = PlannedFault {
            id: "fault".into(),
            what: String::new(),
            component: Component::Boundary,
            must: vec!["a/1".into(), "b/2".into()],
            may: vec!["c/3".into()],
            runs: Vec::new(),
        };
        assert_eq!(fate(&fault, &broke.iter().map(|name| name.to_string()).collect(), timed_out), expected);
    }
}
