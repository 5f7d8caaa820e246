//! `protocol/answers`: a process answers its plan with a trace, and ends.
//!
//! The only invariant over what the harness observes of a process besides its trace.

use serde_json::Value;
use traintrue_protocol::plan::Plan;
use traintrue_protocol::trace::TraceError;
use traintrue_protocol::trace::event::Run;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::vocabulary::Component;

use crate::evidence::{Ending, SegmentEnding};
use crate::finding::{At, Broken, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule};

/// Kept apart from the rules over traces: the harness judges it with the process's exit status.
pub static RULE: Rule = Rule {
    name: "protocol/answers",
    says: "a trainer answers each plan with a readable trace and exit status 0, in time",
    verifies: "Every process ends by itself within the time limit, with exit status 0. Every line of its standard \
               output is an event of this schema. The first one is `run`, and it names the plan that the process was \
               given. If the scenario kills a process on purpose, its exit status and its last line are not judged.",
    does_not_verify: "What the events say, and whether the last one is `end` (protocol/ends). A trainer that hangs \
                      after a complete trace is noticed only at the time limit.",
    kind: Kind::Process,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Process,
    needs: &[Fact::Plan],
};

/// Judges one process by how it ended and by whether its trace can be read. A failed process goes first: an unreadable
/// trace is then mostly a consequence.
pub fn judge(sheet: &mut Sheet, ending: Option<&SegmentEnding>, unreadable: Option<&TraceError>) {
    sheet.compared += 1;
    let failed = ending.filter(|ending| !ending.as_meant).map(|ending| describe(&ending.ending));
    let (actual, cause) = match (failed, unreadable) {
        (None, None) => return,
        (Some(failed), _) => failed,
        (None, Some(error)) => (
            error.to_string(),
            "the standard output is not a trace: only events may be written to it, check for print statements"
                .to_owned(),
        ),
    };
    sheet.broken = Some(Broken {
        rank: 0,
        segment: 0,
        line: unreadable.and_then(TraceError::line).unwrap_or(1),
        at: At { event: "process".to_owned(), ..At::default() },
        expected: "a trace, and exit status 0".to_owned(),
        actual,
        component: Component::Protocol,
        cause,
    });
}

/// Compares the plan in a trace's first line with the plan that the process was given. All other rules read the plan in
/// the trace, so a trainer could otherwise choose what it is judged by.
pub fn same_plan(sheet: &mut Sheet, given: &Plan, reported: &Run) {
    sheet.compared += 1;
    let named = (&reported.scenario, &reported.run) == (&given.scenario, &given.run);
    if sheet.broken.is_some() || (named && reported.plan == *given) {
        return;
    }
    let shown = |plan: &Plan| serde_json::to_value(plan).unwrap_or_default();
    let names = [("scenario", &given.scenario, &reported.scenario), ("run", &given.run, &reported.run)];
    let name = names.into_iter().find(|(_, given, reported)| given != reported);
    let name = name.map(|(field, given, reported)| (field.to_owned(), given.clone(), reported.clone()));
    let differs = name.or_else(|| difference("plan", &shown(given), &shown(&reported.plan)));
    let (field, given, reported) = differs.unwrap_or_default();
    sheet.broken = Some(Broken {
        rank: 0,
        segment: 0,
        line: 1,
        at: At { event: "run".to_owned(), ..At::default() },
        expected: format!("{field} {given}, as in the plan that the trainer was given"),
        actual: reported,
        component: Component::Protocol,
        cause: "the trainer's run event names another plan than the one it was given".to_owned(),
    });
}

/// The first field in which two documents differ, with both values.
fn difference(field: &str, given: &Value, reported: &Value) -> Option<(String, String, String)> {
    match (given, reported) {
        (Value::Object(given), Value::Object(reported)) => {
            given.keys().chain(reported.keys()).find_map(|name| {
                let [given, reported] =
                    [given, reported].map(|fields| fields.get(name).unwrap_or(&Value::Null));
                difference(&format!("{field}.{name}"), given, reported)
            })
        }
        (Value::Array(given), Value::Array(reported)) if given.len() == reported.len() => {
            let pairs = given.iter().zip(reported).enumerate();
            pairs
                .into_iter()
                .find_map(|(at, (given, reported))| difference(&format!("{field}[{at}]"), given, reported))
        }
        (Value::Array(given), Value::Array(reported)) => {
            Some((field.to_owned(), format!("of {}", given.len()), format!("{}", reported.len())))
        }
        _ => (given != reported).then(|| (field.to_owned(), given.to_string(), reported.to_string())),
    }
}

fn describe(ending: &Ending) -> (String, String) {
    match ending {
        Ending::Done => (
            "the process finished".to_owned(),
            "the scenario's kill did not happen before the process finished".to_owned(),
        ),
        Ending::Declined { reason } => {
            (format!("declined: {reason}"), "the trainer declined the plan".to_owned())
        }
        Ending::Failed { status, complaint, .. } if complaint.is_empty() => {
            (status.clone(), "the trainer failed and wrote nothing to its standard error".to_owned())
        }
        Ending::Failed { status, complaint, .. } => {
            (status.clone(), format!("the trainer failed; its standard error ends: {complaint}"))
        }
        Ending::Killed => ("killed".to_owned(), "the harness killed the process".to_owned()),
        Ending::LeftAlone => (
            "still running after another rank had failed".to_owned(),
            "the rank waits for one that is gone: its collective has no time limit".to_owned(),
        ),
        Ending::TimedOut { after } => {
            let actual = format!("still running after {} s", after.as_secs_f64());
            (actual, "the trainer hangs, or needs a longer --timeout".to_owned())
        }
        Ending::TooLong { limit_bytes } => (
            format!("more than {limit_bytes} bytes of trace, or of standard error"),
            "the trainer does not stop writing: check for an endless loop or debug output".to_owned(),
        ),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use traintrue_protocol::contract::Contract;
    use traintrue_protocol::plan::{SCHEMA, example};

    #[rstest]
    #[case(|run: &mut Run| run.run = "other".into(), "run whole", "other")]
    #[case(|run: &mut Run| run.plan.train.accumulation = 1, "plan.train.accumulation 2", "1")]
    #[case(|run: &mut Run| run.plan.data.samples[1][0] = 9, "plan.data.samples[1][0] 1", "9")]
    #[case(|run: &mut Run| { run.plan.data.samples.pop(); }, "plan.data.samples of 3", "2")]
    #[case(|run: &mut Run| run.plan.stop = None, "plan.stop {\"epoch\":0,\"micro_batches\":1,\"save\":null}", "null")]
    fn a_trainer_that_follows_another_plan_is_told_which_field(
        #[case] change: fn(&mut Run),
        #[case] given: &str,
        #[case] reported: &str,
    ) {
        let plan = example();
        let mut run = Run {
            schema: SCHEMA,
            trainer: "fake 1".into(),
            device: "none".into(),
            scenario: plan.scenario.clone(),
            run: plan.run.clone(),
            plan: plan.clone(),
            recorded: None,
            contract: Contract::default(),
        };
        let mut sheet = Sheet::default();
        same_plan(&mut sheet, &plan, &run);
        assert!(sheet.broken.is_none());
        change(&mut run);
        same_plan(&mut sheet, &plan, &run);
        let broken = sheet.broken.unwrap();
        assert_eq!(broken.expected, format!("{given}, as in the plan that the trainer was given"));
        assert_eq!((broken.actual.as_str(), broken.line), (reported, 1));
    }
}
