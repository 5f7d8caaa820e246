//! Judges recorded traces: by the scenario that they name, or as a free pair.

mod ranks;
mod recorded;

use std::path::{Path, PathBuf};
use std::time::Instant;

use rayon::prelude::*;
use traintrue_judge::case::{compare, compared_in};
use traintrue_judge::evidence::declined;
use traintrue_judge::expectation::{Expectation, selects};
use traintrue_judge::finding::Sheet;
use traintrue_judge::invariants::protocol::answers;
use traintrue_judge::invariants::resume::seam;
use traintrue_judge::invariants::training::{partition, repeat};
use traintrue_judge::pass::{JudgedTrace, judge_trace};
use traintrue_judge::rule::{Kind, Rule, RunEvidence, counterpart_name};
use traintrue_judge::rules::{RULES, find};
use traintrue_judge::tally::{Labels, Tally};
use traintrue_judge::verdict::{Outcome, RunReport, seconds_since};
use traintrue_protocol::contract::Contract;
use traintrue_protocol::trace::event::Run;
use traintrue_protocol::trace::recorded::Recorded as Recording;
use traintrue_protocol::trace::{Event, Line, TraceError, TraceReader};

use crate::reproduce::command;
use crate::scenario::Catalogue;

/// What a free pair of runs must be to each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Relation {
    /// The first was cut and resumed, the other never stopped.
    Seam,
    /// The same plan twice.
    Equal,
    /// The same work in other micro-batches.
    Partition,
}

impl Relation {
    /// The invariant that judges it.
    pub fn rule(self) -> &'static Rule {
        match self {
            Self::Seam => &seam::RULE,
            Self::Equal => &repeat::RULE,
            Self::Partition => &partition::RULE,
        }
    }
}

/// Judges each trace, one outcome each, and the runs that they make up by what their scenario asks for, as far as both sides
/// of a pair are there. With `against`, all traces are the segments of one run, which is held against that trace instead.
/// `arguments` are those of the command line, for findings. Fails on a trace that cannot be read to its end.
pub fn check(
    traces: &[PathBuf],
    against: Option<(&Path, Relation)>,
    catalogue: &Catalogue,
    arguments: &[String],
) -> Result<RunReport, TraceError> {
    let show = |path: &Path| path.display().to_string();
    let command = command(arguments);
    let labels = Labels { reproduce: &command, trace: &show };
    let reasons: Vec<Option<String>> = traces.par_iter().map(|path| declined(path)).collect();
    let trained = traces.par_iter().zip(&reasons).filter(|(_, reason)| reason.is_none());
    let recorded: Vec<Recorded> = trained.map(|(path, _)| Recorded::read(path)).collect::<Result<_, _>>()?;
    let mut tallies: Vec<Tally> = recorded.iter().map(|one| one.tally(labels)).collect();
    match against {
        Some(_) if recorded.is_empty() => {}
        Some((other, relation)) => free_pair(&recorded, other, relation, &mut tallies)?,
        None => {
            by_scenario(&recorded, catalogue, &mut tallies);
            ranks::of_recorded(&recorded, &mut tallies);
        }
    }
    let mut judged = recorded.iter().zip(tallies).map(|(one, tally)| one.outcome(tally));
    let outcomes = traces.iter().zip(reasons).filter_map(|(path, reason)| match reason {
        Some(reason) => Some(refusal(path, reason)),
        None => judged.next(),
    });
    let outcomes: Vec<Outcome> = outcomes.collect();
    let first = recorded.first().map(|one| &one.run);
    Ok(RunReport::new(
        first.map(|run| run.trainer.clone()).unwrap_or_default(),
        first.map_or_else(Contract::default, |run| run.contract.clone()),
        outcomes,
    ))
}

/// Judges all traces as the segments of one run, which is held against another trace.
fn free_pair(
    recorded: &[Recorded],
    other: &Path,
    relation: Relation,
    tallies: &mut [Tally],
) -> Result<(), TraceError> {
    if let Some(reason) = declined(other) {
        let reason = format!("{reason} (the trainer declined {})", other.display());
        tallies.iter_mut().for_each(|tally| tally.cannot_judge(reason.clone()));
        return Ok(());
    }
    let begun = Recorded::read(other)?;
    let other = Group {
        recorded: None,
        scenario: "",
        name: &begun.run.run,
        members: Vec::new(),
        traces: vec![other.into()],
    };
    let run = Group::whole(recorded);
    let rule = relation.rule();
    if let Some(sheet) = judge(rule, recorded, &run, Some(&other), true) {
        tell(rule, &run, Some(&other), &sheet, tallies);
    }
    Ok(())
}

/// The outcome of a trace in which the trainer declined its plan.
fn refusal(path: &Path, reason: String) -> Outcome {
    let mut lines = TraceReader::open(path).into_iter().flatten();
    let scenario = match lines.next() {
        Some(Ok(Line { event: Event::Run(run), .. })) => run.scenario,
        _ => path.display().to_string(),
    };
    Outcome::not_judged(&scenario, format!("{reason} (the trainer declined the plan)"))
}

/// One recorded trace.
struct Recorded<'a> {
    path: &'a Path,
    run: Box<Run>,
    judged: JudgedTrace,
    seconds: f64,
}

impl<'a> Recorded<'a> {
    fn read(path: &'a Path) -> Result<Self, TraceError> {
        let begun = Instant::now();
        let mut judged = judge_trace(path, false, RULES);
        match (judged.error.take(), judged.run.take()) {
            (None, Some(run)) => Ok(Self { path, run, judged, seconds: seconds_since(begun) }),
            (Some(error), _) => Err(error),
            (None, None) => Err(TraceError::NoRun { path: path.to_owned(), found: "missing".to_owned() }),
        }
    }

    /// Its run, or which of several recorded processes it is.
    fn name(&self) -> String {
        let rank = self.run.recorded.as_ref().and_then(|recorded| recorded.rank);
        rank.map_or_else(|| self.run.run.clone(), |rank| format!("rank-{rank}"))
    }

    fn tally<'t>(&self, labels: Labels<'t>) -> Tally<'t> {
        let mut tally = Tally::new(labels);
        let mut readable = Sheet::default();
        answers::judge(&mut readable, None, None);
        if self.run.recorded.is_none() {
            // Its names, and those in its plan: which plan it was given, nobody knows here.
            answers::same_plan(&mut readable, &self.run.plan, &self.run);
        }
        tally.add(&answers::RULE, &self.name(), self.path, &readable);
        for (rule, sheet) in &self.judged.sheets {
            match recorded::doubt(rule, sheet, self.judged.end.as_ref()) {
                Some(doubt) => tally.cannot_judge(doubt),
                None => tally.add(rule, &self.name(), self.path, sheet),
            }
        }
        if let Some(recording) = &self.run.recorded {
            recorded::tell(recording, &self.judged, &mut tally);
        }
        tally
    }

    fn outcome(&self, tally: Tally) -> Outcome {
        let traces = vec![self.path.to_owned()];
        Outcome { seconds: self.seconds, traces, ..tally.outcome(&self.run.scenario) }
    }
}

/// The traces of one run.
struct Group<'a> {
    /// What is known of a loop that was told no plan.
    recorded: Option<&'a Recording>,
    scenario: &'a str,
    name: &'a str,
    /// Their places among all traces.
    members: Vec<usize>,
    traces: Vec<PathBuf>,
}

impl<'a> Group<'a> {
    fn of(recorded: &'a [Recorded], mut members: Vec<usize>) -> Self {
        // The segment that starts afresh is the first; the others are in the order given.
        members.sort_by_key(|&at| recorded[at].run.plan.start.is_some());
        let run = &recorded[members[0]].run;
        let traces = members.iter().map(|&at| recorded[at].path.to_owned()).collect();
        Self { recorded: run.recorded.as_ref(), scenario: &run.scenario, name: &run.run, members, traces }
    }

    fn whole(recorded: &'a [Recorded]) -> Self {
        Self::of(recorded, (0..recorded.len()).collect())
    }

    /// One a scenario and run.
    fn all(recorded: &'a [Recorded]) -> Vec<Self> {
        let mut groups: Vec<(&str, &str, Vec<usize>)> = Vec::new();
        for (at, one) in recorded.iter().enumerate() {
            let (scenario, name) = (one.run.scenario.as_str(), one.run.run.as_str());
            match groups.iter_mut().find(|group| (group.0, group.1) == (scenario, name)) {
                Some(group) => group.2.push(at),
                None => groups.push((scenario, name, vec![at])),
            }
        }
        groups.into_iter().map(|(_, _, members)| Self::of(recorded, members)).collect()
    }

    fn evidence(&self) -> RunEvidence {
        RunEvidence { name: self.name.to_owned(), segments: self.traces.clone(), repeats: Vec::new() }
    }
}

/// Judges each run by what its scenario asks of it.
fn by_scenario(recorded: &[Recorded], catalogue: &Catalogue, tallies: &mut [Tally]) {
    let groups = Group::all(recorded);
    for run in &groups {
        let Some(scenario) = catalogue.find(run.scenario) else {
            if run.recorded.is_some() {
                continue;
            }
            let note = format!(
                "no scenario is called {:?}: judged by what must hold over every trace",
                run.scenario
            );
            run.members.iter().for_each(|&at| tallies[at].note(&note));
            continue;
        };
        let whole = run.members.len() > 1 || scenario.has_run_of_one_process(run.name);
        let of_run = |asked: &&Expectation| selects(&asked.runs, run.name);
        for asked in scenario.expectations.iter().filter(of_run) {
            let Some(rule) = find(&asked.invariant) else { continue };
            let against = asked.against.as_deref().and_then(|name| counterpart(&groups, name, run));
            if let Kind::Ranks(_) = rule.kind {
                ranks::of_scenario(rule, asked, recorded, &groups, run, tallies);
                continue;
            }
            match judge(rule, recorded, run, against, whole) {
                Some(sheet) => tell(rule, run, against, &sheet, tallies),
                None => {
                    if let Some(note) = lacking(rule, asked) {
                        run.members.iter().for_each(|&at| tallies[at].note(&note));
                    }
                }
            }
        }
    }
}

/// The run `name`; of a run of several ranks, the one of the same rank as `of`.
fn counterpart<'g, 'a>(groups: &'g [Group<'a>], name: &str, of: &Group) -> Option<&'g Group<'a>> {
    let called = |wanted: &str| {
        groups.iter().find(|it| it.scenario == of.scenario && it.name == wanted && wanted != of.name)
    };
    called(name).or_else(|| called(&counterpart_name(name, of.name)))
}

/// Judges one run by one invariant; none where what that needs is not there. `whole`: all segments of the run are.
fn judge(
    rule: &Rule,
    recorded: &[Recorded],
    run: &Group,
    against: Option<&Group>,
    whole: bool,
) -> Option<Sheet> {
    let evidence = run.evidence();
    match rule.kind {
        Kind::Trace(_) => {
            whole.then(|| compared_in(rule, run.members.iter().map(|&at| &recorded[at].judged)))
        }
        Kind::Run(_) => whole.then(|| compare(rule, &evidence, None)),
        Kind::Pair(_) => against.map(|other| compare(rule, &evidence, Some(&other.evidence()))),
        Kind::Ranks(_) | Kind::Process | Kind::Artefact => None,
    }
}

/// What an invariant that was not judged would need; none where its traces were judged one by one.
fn lacking(rule: &Rule, asked: &Expectation) -> Option<String> {
    let what = match rule.kind {
        Kind::Run(_) => "the traces of the run's other processes are not given".to_owned(),
        Kind::Pair(_) => {
            format!("the run {} is not among the traces", asked.against.as_deref().unwrap_or_default())
        }
        Kind::Trace(_) | Kind::Ranks(_) | Kind::Process | Kind::Artefact => return None,
    };
    Some(format!("{} is not judged: {what}", rule.name))
}

/// Tells what came of it in the outcome of the trace that broke it, or of the run's last.
fn tell(rule: &Rule, run: &Group, against: Option<&Group>, sheet: &Sheet, tallies: &mut [Tally]) {
    let segment = sheet.broken.as_ref().map_or(run.members.len() - 1, |broken| broken.segment);
    if let Some(&at) = run.members.get(segment) {
        let against = against.map(Group::evidence);
        tallies[at].asked(rule, &run.evidence(), against.as_ref(), sheet);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use traintrue_judge::verdict::Verdict;
    use traintrue_protocol::plan::{Plan, example};
    use traintrue_protocol::trace::TraceWriter;
    use traintrue_protocol::trace::event::{End, EndReason};

    /// A trace of `run` that says nothing but its plan and its end.
    fn recorded(folder: &Path, scenario: &str, run: &str) -> PathBuf {
        ended(folder, scenario, run, EndReason::Done, None)
    }

    fn ended(folder: &Path, scenario: &str, run: &str, reason: EndReason, message: Option<&str>) -> PathBuf {
        let path = folder.join(format!("{run}.jsonl"));
        let opening = Run {
            schema: 1,
            trainer: "fake 1".into(),
            device: "none".into(),
            scenario: scenario.into(),
            run: run.into(),
            plan: Plan { stop: None, ..example() },
            recorded: None,
            contract: Contract::default(),
        };
        let mut writer = TraceWriter::new(std::fs::File::create(&path).unwrap());
        writer.write(&Event::Run(Box::new(opening))).unwrap();
        writer.write(&Event::End(End::new(reason, message.map(str::to_owned)))).unwrap();
        path
    }

    fn judged(traces: &[PathBuf], against: Option<(&Path, Relation)>) -> RunReport {
        let catalogue = Catalogue::load(None).unwrap();
        let arguments = ["check".to_owned(), "a trace.jsonl".to_owned()];
        check(traces, against, &catalogue, &arguments).unwrap()
    }

    #[test]
    fn each_trace_has_an_outcome_and_a_pair_is_judged_where_both_sides_are_there() {
        let folder = tempfile::tempdir().unwrap();
        let [once, again] = ["once", "again"].map(|run| recorded(folder.path(), "determinism", run));
        let mentions = |report: &RunReport, at: usize| {
            let outcome = &report.outcomes[at];
            let said =
                outcome.reason.iter().chain(&outcome.notes).any(|it| it.contains("determinism/repeat"));
            said || outcome.compared.contains_key("determinism/repeat")
        };
        let both = judged(&[again.clone(), once.clone()], None);
        assert_eq!((both.outcomes.len(), both.trainer.as_str()), (2, "fake 1"));
        assert!(mentions(&both, 0) && !mentions(&both, 1));
        let alone = &judged(&[again], None).outcomes[0];
        let note = "determinism/repeat is not judged: the run once is not among the traces";
        assert!(alone.notes.iter().any(|it| it == note), "{:?}", alone.notes);
    }

    #[test]
    fn a_trace_whose_plan_was_declined_is_not_judged() {
        let folder = tempfile::tempdir().unwrap();
        let [once, again] = ["once", "again"].map(|run| recorded(folder.path(), "determinism", run));
        let declined = EndReason::Declined;
        let refused = ended(folder.path(), "determinism", "refused", declined, Some("no adapters"));
        let report = judged(&[refused.clone(), again.clone()], None);
        let shown = (report.outcomes[0].verdict, report.outcomes[0].reason.as_deref());
        assert_eq!(shown, (Verdict::NotJudged, Some("no adapters (the trainer declined the plan)")));
        assert_eq!((report.outcomes.len(), report.outcomes[1].verdict), (2, Verdict::Broken));
        for (run, against) in [(&once, &refused), (&refused, &once)] {
            let report = judged(std::slice::from_ref(run), Some((against, Relation::Equal)));
            assert!(report.outcomes[0].reason.as_ref().unwrap().starts_with("no adapters"));
            assert!(report.outcomes[0].findings.iter().all(|it| it.invariant != "determinism/repeat"));
        }
    }

    #[test]
    fn a_trace_of_an_unknown_scenario_says_so() {
        let folder = tempfile::tempdir().unwrap();
        let report = judged(&[recorded(folder.path(), "mine", "once")], None);
        assert!(report.outcomes[0].notes[0].starts_with("no scenario is called \"mine\""));
    }

    #[test]
    fn a_trace_that_ends_too_soon_is_broken_with_the_command_that_shows_it_again() {
        let folder = tempfile::tempdir().unwrap();
        let once = recorded(folder.path(), "mine", "once");
        let report = judged(std::slice::from_ref(&once), Some((&once, Relation::Seam)));
        // Nothing was trained: the plan asks for four updates.
        assert_eq!(report.outcomes[0].verdict, Verdict::Broken);
        assert_eq!(report.outcomes[0].findings[0].reproduce, "traintrue check 'a trace.jsonl'");
    }

    #[test]
    fn a_file_that_is_no_trace_is_one_clear_error() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("log.jsonl");
        std::fs::write(&path, "{\"event\":\"epoch\",\"epoch\":0,\"edge\":\"begin\"}\n").unwrap();
        let catalogue = Catalogue::load(None).unwrap();
        let error = check(&[path], None, &catalogue, &[]).unwrap_err().to_string();
        assert!(
            error.ends_with("log.jsonl: the first event is epoch, expected run with schema 1"),
            "{error}"
        );
    }
}
