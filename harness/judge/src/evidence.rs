//! The evidence of a scenario's runs: their traces, and how each process ended.

use std::path::Path;
use std::time::Duration;

use traintrue_protocol::plan::Plan;
use traintrue_protocol::trace::event::{End, EndReason};
use traintrue_protocol::trace::{Event, TraceReader};

use crate::rule::RunEvidence;

/// The evidence of one scenario.
#[derive(Debug, Default)]
pub struct Evidence {
    /// One record per run, in the scenario's order.
    pub runs: Vec<RunRecord>,
    /// Why some runs could not be made.
    pub unjudged: Vec<String>,
    /// The runs whose plan the trainer declined.
    pub declined: Vec<Declined>,
}

/// A run whose plan the trainer declined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Declined {
    /// The run.
    pub run: String,
    /// The trainer's reason.
    pub reason: String,
}

impl Evidence {
    /// The evidence of one run. A run that was declined, even in its last process alone, shows nothing to judge.
    pub fn of(record: RunRecord) -> Self {
        let declined = record.endings.iter().find_map(|it| match &it.ending {
            Ending::Declined { reason } => Some(reason.clone()),
            _ => None,
        });
        match declined {
            Some(reason) => {
                let declined = vec![Declined { run: record.evidence.name, reason }];
                Self { declined, ..Self::default() }
            }
            None => Self { runs: vec![record], ..Self::default() },
        }
    }

    /// The trainer's reasons, each once, with the runs that it was given for.
    pub fn reasons_to_decline(&self) -> Vec<String> {
        let mut reasons: Vec<&str> = Vec::new();
        for declined in &self.declined {
            if !reasons.contains(&declined.reason.as_str()) {
                reasons.push(&declined.reason);
            }
        }
        let named = |reason: &&str| {
            let mut runs = self.declined.iter().filter(|it| it.reason == *reason).map(|it| it.run.as_str());
            let first = runs.next().unwrap_or_default();
            match runs.count() {
                0 => format!("{reason} (the trainer declines {first})"),
                1 => format!("{reason} (the trainer declines {first} and 1 other run)"),
                more => format!("{reason} (the trainer declines {first} and {more} other runs)"),
            }
        };
        reasons.iter().map(named).collect()
    }

    /// The wall time of all processes of all runs together, in seconds to the millisecond.
    pub fn seconds(&self) -> f64 {
        let walls = self.runs.iter().flat_map(|run| &run.endings).map(|ending| ending.wall);
        (walls.sum::<Duration>().as_secs_f64() * 1e3).round() / 1e3
    }
}

/// The evidence of one run.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// Its traces.
    pub evidence: RunEvidence,
    /// How each of its processes ended, in the order of its segments.
    pub endings: Vec<SegmentEnding>,
    /// Whether its last process was started.
    pub complete: bool,
}

/// How one process ended.
#[derive(Clone, Debug)]
pub struct SegmentEnding {
    /// The plan that the process was given.
    pub plan: Plan,
    /// How it ended.
    pub ending: Ending,
    /// Its wall time.
    pub wall: Duration,
    /// Whether the scenario killed it on purpose.
    pub died: bool,
    /// Whether it ended as the scenario says: by itself, or by the scenario's kill.
    pub as_meant: bool,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With exit status 0.
    Done,
    /// With another exit status, or by a signal.
    Failed {
        /// The exit status; a signal has none.
        code: Option<i32>,
        /// The status in words.
        status: String,
        /// The last lines of its standard error.
        complaint: String,
    },
    /// With exit status 0, and without training: the trainer declined the plan.
    Declined {
        /// The trainer's reason.
        reason: String,
    },
    /// By the scenario's kill.
    Killed,
    /// By the harness, because another rank of its run had failed and it did not end.
    LeftAlone,
    /// By the harness, because it exceeded the time limit.
    TimedOut {
        /// The time limit.
        after: Duration,
    },
    /// By the harness, because its trace or its standard error exceeded the size limit.
    TooLong {
        /// The size limit.
        limit_bytes: u64,
    },
}

impl RunRecord {
    /// True if every process ended as the scenario says.
    pub fn as_meant(&self) -> bool {
        self.endings.iter().all(|ending| ending.as_meant)
    }

    /// The record of a run that has not begun.
    pub fn new(name: &str) -> Self {
        let evidence = RunEvidence { name: name.to_owned(), segments: Vec::new(), repeats: Vec::new() };
        Self { evidence, endings: Vec::new(), complete: false }
    }
}

impl SegmentEnding {
    /// True if the process was killed because it exceeded the time limit.
    pub fn timed_out(&self) -> bool {
        matches!(self.ending, Ending::TimedOut { .. })
    }
}

/// The reason with which a trainer declined its plan. None for any other trace, and for one with a micro-batch or an update:
/// a trainer that has begun to train is judged.
pub fn declined(trace: &Path) -> Option<String> {
    let lines = TraceReader::open(trace).ok()?.map_while(Result::ok);
    for line in lines {
        match line.event {
            Event::MicroBatch(_) | Event::Update(_) => return None,
            Event::End(End { reason: EndReason::Declined, message, .. }) => {
                return Some(message.unwrap_or_else(|| "the trainer gives no reason".to_owned()));
            }
            _ => {}
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::*;

    fn end(reason: EndReason) -> Event {
        Event::End(End::new(reason, Some("no adapters".to_owned())))
    }

    #[rstest]
    #[case::before_training(|events: &mut Vec<Event>| {
        events.truncate(1);
        events.push(end(EndReason::Declined));
    }, Some("no adapters"))]
    #[case::in_the_middle_of_training(|events: &mut Vec<Event>| {
        events.pop();
        events.push(end(EndReason::Declined));
    }, None)]
    #[case::an_error(|events: &mut Vec<Event>| {
        events.truncate(1);
        events.push(end(EndReason::Error));
    }, None)]
    #[case::a_whole_run(|_: &mut Vec<Event>| {}, None)]
    fn only_a_trainer_that_has_not_trained_declines(
        #[case] change: fn(&mut Vec<Event>),
        #[case] reason: Option<&str>,
    ) {
        let mut events = whole();
        change(&mut events);
        let folder = tempfile::tempdir().unwrap();
        let run = evidence(&folder, "one", &[events]);
        assert_eq!(declined(&run.segments[0]).as_deref(), reason);
    }

    #[test]
    fn a_reason_is_told_once_with_its_runs() {
        let declined = |run: &str, reason: &str| Declined { run: run.to_owned(), reason: reason.to_owned() };
        let declined = ["whole", "cut-1", "cut-2"].map(|run| declined(run, "no adapters")).to_vec();
        let evidence = Evidence { declined, ..Evidence::default() };
        assert_eq!(
            evidence.reasons_to_decline(),
            ["no adapters (the trainer declines whole and 2 other runs)"]
        );
    }
}
