//! Waivers: failures that are known, and scenarios that are known not to be judged. They stay visible in every report and do
//! not count.
//!
//! A waiver is itself held to something: one that is expired fails, and so does one that nothing needs any more, where all
//! that it stands for was judged.

use jiff::civil::Date;
use traintrue_judge::finding::{At, Finding, Waived};
use traintrue_judge::verdict::{Outcome, RunReport, Summary, Verdict};
use traintrue_protocol::vocabulary::Component;

use crate::config::{Config, Waiver};
use crate::reproduce::command;
use crate::scenario::Catalogue;

/// The day it is, in UTC: the same for everyone who looks at one report.
pub fn today() -> Date {
    jiff::Timestamp::now().to_zoned(jiff::tz::TimeZone::UTC).date()
}

/// What waivers are held to.
#[derive(Clone, Copy, Debug)]
pub struct Waiving<'a> {
    /// The file that they stand in.
    pub config: &'a Config,
    /// All scenarios; without it, no waiver is said to be needed no more.
    pub catalogue: Option<&'a Catalogue>,
    /// The day.
    pub today: Date,
    /// The arguments of the command line, for findings.
    pub arguments: &'a [String],
}

impl Waiving<'_> {
    /// Applies the waivers to a report. One that is expired, or that nothing needs, becomes a finding of its own.
    pub fn apply(&self, mut report: RunReport) -> RunReport {
        let stale = |waiver: &Waiver| {
            if waiver.until < self.today {
                return Some(expired(waiver));
            }
            let used = use_up(waiver, &mut report.outcomes);
            (!used && self.all_judged(waiver, &report)).then(|| not_needed(waiver))
        };
        let stale: Vec<Option<Stale>> = self.config.waivers.iter().map(stale).collect();
        for outcome in report.outcomes.iter_mut().filter(|outcome| outcome.verdict != Verdict::Held) {
            let whole =
                |waiver: &Waiver| waiver.stands_for_all_of(&outcome.scenario) && waiver.until >= self.today;
            let all_known = outcome.findings.iter().all(|finding| finding.waived.is_some());
            let all_judged = outcome.reason.is_none() || self.config.waivers.iter().any(whole);
            outcome.verdict = match (all_known, all_judged) {
                (false, _) => Verdict::Broken,
                (true, false) => Verdict::NotJudged,
                (true, true) => Verdict::Waived,
            };
        }
        let waivers = self.config.waivers.iter().zip(stale);
        let findings: Vec<Finding> =
            waivers.filter_map(|(waiver, stale)| Some(stale?.finding(self, waiver))).collect();
        if !findings.is_empty() {
            let file = Outcome::not_judged(&self.config.path.display().to_string(), String::new());
            report.outcomes.push(Outcome { verdict: Verdict::Broken, reason: None, findings, ..file });
        }
        report.summary = Summary::of(&report.outcomes);
        report
    }

    /// Whether what it may stand for was run and judged, all of it: only then is it known that nothing needs it.
    fn all_judged(&self, waiver: &Waiver, report: &RunReport) -> bool {
        let judged = |outcome: &Outcome| {
            // After what broke, as after a crash, others may not have been compared.
            let compared =
                || waiver.invariant.as_ref().is_none_or(|name| outcome.compared.contains_key(name));
            outcome.reason.is_none() && (outcome.verdict == Verdict::Held || compared())
        };
        let run = |id: &str| report.outcomes.iter().any(|outcome| outcome.scenario == id && judged(outcome));
        let Some(catalogue) = self.catalogue.filter(|_| report.errors.is_empty()) else { return false };
        let of_it: Vec<&str> = catalogue
            .all()
            .iter()
            .map(|scenario| scenario.id.as_str())
            .filter(|id| waiver.is_of(id))
            .collect();
        !of_it.is_empty() && of_it.into_iter().all(run)
    }
}

/// Marks every finding that it stands for, and every scenario of its that could not be judged; true where there is one.
fn use_up(waiver: &Waiver, outcomes: &mut [Outcome]) -> bool {
    let waived = Waived { reason: waiver.reason.clone(), until: waiver.until.to_string() };
    let mut used = false;
    for outcome in outcomes.iter_mut().filter(|outcome| waiver.is_of(&outcome.scenario)) {
        let of_it =
            |finding: &&mut Finding| waiver.invariant.as_ref().is_none_or(|name| *name == finding.invariant);
        for finding in outcome.findings.iter_mut().filter(of_it) {
            finding.waived.get_or_insert_with(|| waived.clone());
            used = true;
        }
        if let Some(reason) = outcome.reason.as_mut().filter(|_| waiver.invariant.is_none()) {
            reason.push_str(&format!("; {waived}"));
            used = true;
        }
    }
    used
}

impl Waiver {
    fn is_of(&self, scenario: &str) -> bool {
        self.scenario.as_ref().is_none_or(|own| own == scenario)
    }

    /// Whether it also stands for what could not be judged. What is missing may be any invariant, or none.
    fn stands_for_all_of(&self, scenario: &str) -> bool {
        self.invariant.is_none() && self.is_of(scenario)
    }

    /// What it stands for, in words.
    fn what(&self) -> String {
        match (&self.invariant, &self.scenario) {
            (Some(invariant), Some(scenario)) => format!("{invariant} in {scenario}"),
            (Some(name), None) | (None, Some(name)) => name.clone(),
            (None, None) => String::new(),
        }
    }
}

/// What is wrong with a waiver.
struct Stale {
    invariant: &'static str,
    expected: String,
    actual: String,
    cause: String,
}

fn expired(waiver: &Waiver) -> Stale {
    let (what, line) = (waiver.what(), waiver.line);
    Stale {
        invariant: "waiver/current",
        expected: "a day that is still to come, or today".to_owned(),
        actual: format!("until {}", waiver.until),
        cause: format!(
            "the waiver of {what} is expired: mend the trainer and delete the [[waive]] at line {line}, or say why it stays"
        ),
    }
}

fn not_needed(waiver: &Waiver) -> Stale {
    let (what, line) = (waiver.what(), waiver.line);
    Stale {
        invariant: "waiver/used",
        expected: format!("a failure of {what}"),
        actual: "it holds".to_owned(),
        cause: format!("nothing needs the waiver any more: delete the [[waive]] at line {line}"),
    }
}

impl Stale {
    fn finding(self, waiving: &Waiving, waiver: &Waiver) -> Finding {
        let file = waiving.config.path.display().to_string();
        Finding {
            invariant: self.invariant.to_owned(),
            component: Component::Waiver,
            run: file.clone(),
            line: waiver.line,
            at: At { event: "waiver".to_owned(), ..At::default() },
            expected: self.expected,
            actual: self.actual,
            cause: self.cause,
            reproduce: command(waiving.arguments),
            trace: file,
            waived: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;
    use std::path::Path;
    use traintrue_protocol::contract::Contract;
    use traintrue_protocol::exit::Exit;

    fn outcome(scenario: &str, verdict: Verdict, broke: &[&str]) -> Outcome {
        let finding = |name: &&str| Finding { invariant: (*name).to_owned(), ..crate::report::example() };
        let findings = broke.iter().map(finding).collect();
        let compared =
            broke.iter().chain(&["clip/global-norm"]).map(|name| ((*name).to_owned(), 1)).collect();
        Outcome { verdict, reason: None, compared, findings, ..Outcome::not_judged(scenario, String::new()) }
    }

    fn waivers(of: &str, until: &str) -> Config {
        let text = format!("[[waive]]\n{of}\nreason = \"known\"\nuntil = {until}\n");
        Config::parse(Path::new("traintrue.toml"), &text).unwrap()
    }

    /// Every scenario held, but for three: one is broken in two ways, one could not be judged, and one died of what broke.
    fn report(catalogue: &Catalogue) -> RunReport {
        let of = |id: &str| match id {
            "resume-mid-window" => {
                outcome(id, Verdict::Broken, &["seam/identical", "window/closes-as-declared"])
            }
            "torn-checkpoint" => Outcome::not_judged(id, "no file-faults".into()),
            "checkpoint-is-pure" => Outcome {
                reason: Some("seam/identical on resumed: the run did not end".into()),
                ..outcome(id, Verdict::Broken, &["protocol/answers"])
            },
            id => outcome(id, Verdict::Held, &[]),
        };
        let outcomes: Vec<Outcome> = catalogue.all().iter().map(|scenario| of(&scenario.id)).collect();
        RunReport::new("fake 1".into(), Contract::default(), outcomes)
    }

    fn applied(waives: &str, until: &str) -> RunReport {
        let (catalogue, config) = (Catalogue::load(None).unwrap(), waivers(waives, until));
        let (today, arguments) = ("2026-06-01".parse().unwrap(), ["run".to_owned()]);
        let waiving = Waiving { config: &config, catalogue: Some(&catalogue), today, arguments: &arguments };
        waiving.apply(report(&catalogue))
    }

    fn of<'a>(report: &'a RunReport, scenario: &str) -> &'a Outcome {
        report.outcomes.iter().find(|outcome| outcome.scenario == scenario).unwrap()
    }

    #[rstest]
    #[case::of_all("scenario = \"resume-mid-window\"", "2026-06-01", Verdict::Waived, None)]
    #[case::of_one("invariant = \"seam/identical\"", "2026-06-02", Verdict::Broken, None)]
    #[case::of_one_there(
        "invariant = \"seam/identical\"\nscenario = \"resume-mid-window\"",
        "2027-01-01",
        Verdict::Broken,
        None
    )]
    #[case::expired(
        "scenario = \"resume-mid-window\"",
        "2026-05-31",
        Verdict::Broken,
        Some("waiver/current")
    )]
    #[case::not_needed("scenario = \"determinism\"", "2027-01-01", Verdict::Broken, Some("waiver/used"))]
    #[case::of_another_kind(
        "scenario = \"resume-mid-window\"\ninvariant = \"clip/global-norm\"",
        "2027-01-01",
        Verdict::Broken,
        Some("waiver/used")
    )]
    #[case::not_known_to_be_needed(
        "scenario = \"torn-checkpoint\"\ninvariant = \"clip/global-norm\"",
        "2027-01-01",
        Verdict::Broken,
        None
    )]
    #[case::not_compared(
        "scenario = \"checkpoint-is-pure\"\ninvariant = \"purity/same-trajectory\"",
        "2027-01-01",
        Verdict::Broken,
        None
    )]
    #[case::not_known_anywhere("invariant = \"clip/global-norm\"", "2027-01-01", Verdict::Broken, None)]
    fn a_waiver_is_used_or_fails(
        #[case] waives: &str,
        #[case] until: &str,
        #[case] verdict: Verdict,
        #[case] stale: Option<&str>,
    ) {
        let applied = applied(waives, until);
        assert_eq!(of(&applied, "resume-mid-window").verdict, verdict);
        let found = applied.outcomes.iter().find(|outcome| outcome.scenario == "traintrue.toml");
        assert_eq!(found.map(|it| it.findings[0].invariant.as_str()), stale);
        if let Some(found) = found {
            let finding = &found.findings[0];
            assert!(finding.cause.contains("[[waive]] at line 1"), "{}", finding.cause);
            assert_eq!((finding.line, finding.reproduce.as_str()), (1, "traintrue run"));
        }
        assert_eq!(applied.summary.exit(), Exit::Broken, "one scenario is broken whatever is waived");
    }

    #[test]
    fn what_is_known_not_to_be_judged_is_waived_and_still_says_why() {
        let applied = applied("scenario = \"torn-checkpoint\"", "2027-01-01");
        let outcome = of(&applied, "torn-checkpoint");
        assert_eq!(outcome.verdict, Verdict::Waived);
        assert_eq!(outcome.reason.as_deref(), Some("no file-faults; waived: known until 2027-01-01"));
        assert_eq!((applied.summary.waived, applied.summary.not_judged), (1, 0));
    }

    #[rstest]
    #[case::what_broke(
        "scenario = \"checkpoint-is-pure\"\ninvariant = \"protocol/answers\"",
        Verdict::NotJudged
    )]
    #[case::all("scenario = \"checkpoint-is-pure\"", Verdict::Waived)]
    fn what_broke_may_be_known_and_the_rest_is_still_not_judged(
        #[case] waives: &str,
        #[case] verdict: Verdict,
    ) {
        assert_eq!(of(&applied(waives, "2027-01-01"), "checkpoint-is-pure").verdict, verdict);
    }

    #[test]
    fn a_waived_finding_says_why_and_how_long() {
        let applied = applied("invariant = \"seam/identical\"", "2027-01-01");
        let [first, second] = of(&applied, "resume-mid-window").findings.as_slice() else { panic!() };
        assert_eq!(first.waived.as_ref().unwrap().to_string(), "waived: known until 2027-01-01");
        assert_eq!(second.waived, None);
    }
}
