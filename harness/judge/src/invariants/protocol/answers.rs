//! `protocol/answers`: a process answers its plan with a trace, and ends.
//!
//! The one invariant over what the harness saw of a process beside its trace.

use serde_json::Value;
use traintrue_protocol::plan::Plan;
use traintrue_protocol::trace::TraceError;
use traintrue_protocol::trace::event::Run;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::vocabulary::Component;

use crate::evidence::{Ending, SegmentEnding};
use crate::finding::{At, Broken, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule};

/// The rule.
pub static RULE: Rule = Rule {
    name: "protocol/answers",
    says: "a trainer answers each plan with a readable trace and exit status 0, in time",
    verifies: "Every process ends by itself within the time limit, with exit status 0, and every line that it wrote to its \
        standard output is an event of this schema, the first being run, which names the plan that it was given. A process \
        that was made to die while it saved is excused for its end and for its last line.",
    does_not_verify: "What the events say, and whether the last one is end: that is protocol/ends. A trainer that hangs \
        after its trace is complete is seen only by the time limit.",
    kind: Kind::Process,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Process,
    needs: &[Fact::Plan],
};

/// Judges one process by how it ended and by whether its trace could be read.
pub fn judge(sheet: &mut Sheet, ending: Option<&SegmentEnding>, unreadable: Option<&TraceError>) {
    sheet.compared += 1;
    let failed = ending.filter(|ending| !ending.as_meant).map(|ending| said(&ending.ending));
    let (actual, cause) = match (failed, unreadable) {
        (None, None) => return,
        (Some(failed), _) => failed,
        (None, Some(error)) => {
            (error.to_string(), "the trainer wrote something else than a trace".to_owned())
        }
    };
    sheet.broken = Some(Broken {
        segment: 0,
        line: unreadable.and_then(TraceError::line).unwrap_or(1),
        at: At { event: "process".to_owned(), ..At::default() },
        expected: "a trace, and exit status 0".to_owned(),
        actual,
        component: Component::Protocol,
        cause,
    });
}

/// Holds the plan of a trace's first line against the one that the process was told: every judge after this reads the
/// former.
pub fn same_plan(sheet: &mut Sheet, told: &Plan, said: &Run) {
    sheet.compared += 1;
    let named = (&said.scenario, &said.run) == (&told.scenario, &told.run);
    if sheet.broken.is_some() || (named && said.plan == *told) {
        return;
    }
    let shown = |plan: &Plan| serde_json::to_value(plan).unwrap_or_default();
    let names = [("scenario", &told.scenario, &said.scenario), ("run", &told.run, &said.run)];
    let name = names.into_iter().find(|(_, told, said)| told != said);
    let name = name.map(|(field, told, said)| (field.to_owned(), told.clone(), said.clone()));
    let differs = name.or_else(|| difference("plan", &shown(told), &shown(&said.plan)));
    let (field, told, said) = differs.unwrap_or_default();
    sheet.broken = Some(Broken {
        segment: 0,
        line: 1,
        at: At { event: "run".to_owned(), ..At::default() },
        expected: format!("{field} {told}, as the trainer was told"),
        actual: said,
        component: Component::Protocol,
        cause: "the trainer follows another plan than the one it was given, and says so".to_owned(),
    });
}

/// The first field in which two documents differ, and what stands there.
fn difference(field: &str, told: &Value, said: &Value) -> Option<(String, String, String)> {
    match (told, said) {
        (Value::Object(told), Value::Object(said)) => told.keys().chain(said.keys()).find_map(|name| {
            let [told, said] = [told, said].map(|fields| fields.get(name).unwrap_or(&Value::Null));
            difference(&format!("{field}.{name}"), told, said)
        }),
        (Value::Array(told), Value::Array(said)) if told.len() == said.len() => {
            let pairs = told.iter().zip(said).enumerate();
            pairs.into_iter().find_map(|(at, (told, said))| difference(&format!("{field}[{at}]"), told, said))
        }
        (Value::Array(told), Value::Array(said)) => {
            Some((field.to_owned(), format!("of {}", told.len()), format!("{}", said.len())))
        }
        _ => (told != said).then(|| (field.to_owned(), told.to_string(), said.to_string())),
    }
}

fn said(ending: &Ending) -> (String, String) {
    match ending {
        Ending::Done => ("it lived".to_owned(), "it was meant to die".to_owned()),
        Ending::Failed { status, complaint, .. } if complaint.is_empty() => {
            (status.clone(), "the trainer failed and said nothing on its standard error".to_owned())
        }
        Ending::Failed { status, complaint, .. } => {
            (status.clone(), format!("the trainer failed; its standard error ends: {complaint}"))
        }
        Ending::Killed => ("killed".to_owned(), "the harness killed it".to_owned()),
        Ending::TimedOut { after } => {
            let actual = format!("still running after {} s", after.as_secs_f64());
            (actual, "the trainer hangs, or needs a longer --timeout".to_owned())
        }
        Ending::TooLong { limit_bytes } => (
            format!("more than {limit_bytes} bytes of trace, or of standard error"),
            "the trainer never stops writing".to_owned(),
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
        #[case] told: &str,
        #[case] said: &str,
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
        assert_eq!(broken.expected, format!("{told}, as the trainer was told"));
        assert_eq!((broken.actual.as_str(), broken.line), (said, 1));
    }
}
