//! The evidence of a scenario's runs: their traces, and how each process ended.

use std::time::Duration;

use traintrue_protocol::plan::Plan;

use crate::rule::RunEvidence;

/// The evidence of one scenario.
#[derive(Debug, Default)]
pub struct Evidence {
    /// One record per run, in the scenario's order.
    pub runs: Vec<RunRecord>,
    /// Why some runs could not be made.
    pub unjudged: Vec<String>,
}

impl Evidence {
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
    /// By the scenario's kill.
    Killed,
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
