//! `protocol/answers`: a process answers its plan with a trace, and ends.
//!
//! The one invariant over what the harness saw of a process beside its trace.

use super::{Kind, Rule};
use crate::finding::{At, Broken, Sheet};
use crate::program::Ending;
use crate::runner::SegmentEnding;
use crate::trace::TraceError;

/// The rule.
pub static RULE: Rule = Rule {
    name: "protocol/answers",
    says: "a trainer answers each plan with a readable trace and exit status 0, in time",
    verifies: "Every process ends by itself within the time limit, with exit status 0, and every line that it wrote to its \
        standard output is an event of this schema, the first being run. A process that was made to die while it saved is \
        excused for its end and for its last line.",
    does_not_verify: "What the events say, and whether the last one is end: that is protocol/ends. A trainer that hangs \
        after its trace is complete is seen only by the time limit.",
    kind: Kind::Process,
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
        component: "protocol",
        cause,
    });
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
            format!("a trace of more than {limit_bytes} bytes"),
            "the trainer never stops writing".to_owned(),
        ),
    }
}
