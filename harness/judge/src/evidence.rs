//! What the runs of a scenario left: their traces, and how each process ended.

use std::time::Duration;

use traintrue_protocol::plan::Plan;

use crate::rule::RunEvidence;

impl Evidence {
    /// How long all processes of all runs took together.
    pub fn seconds(&self) -> f64 {
        let walls = self.runs.iter().flat_map(|run| &run.endings).map(|ending| ending.wall);
        (walls.sum::<Duration>().as_secs_f64() * 1e3).round() / 1e3
    }
}

/// What the runs of one scenario left.
#[derive(Debug, Default)]
pub struct Evidence {
    /// One a run, in order.
    pub runs: Vec<RunRecord>,
    /// Why some runs could not be made.
    pub unjudged: Vec<String>,
}

/// What one run left.
#[derive(Clone, Debug)]
pub struct RunRecord {
    /// Its traces.
    pub evidence: RunEvidence,
    /// How each of its processes ended.
    pub endings: Vec<SegmentEnding>,
    /// Whether its last process was reached.
    pub complete: bool,
}

/// How one process ended.
#[derive(Clone, Debug)]
pub struct SegmentEnding {
    /// What it was told.
    pub plan: Plan,
    /// How.
    pub ending: Ending,
    /// After how long.
    pub wall: Duration,
    /// Whether it died because it was meant to.
    pub died: bool,
    /// Whether it did what it was meant to: end, or die.
    pub as_meant: bool,
}

/// How a process ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ending {
    /// With exit status 0.
    Done,
    /// With another status or by a signal.
    Failed {
        /// The exit status; a signal has none.
        code: Option<i32>,
        /// The status in words.
        status: String,
        /// The end of its standard error.
        complaint: String,
    },
    /// Killed on purpose.
    Killed,
    /// Killed, for it took too long.
    TimedOut {
        /// The limit.
        after: Duration,
    },
    /// Killed, for its trace or its standard error grew too long.
    TooLong {
        /// The limit.
        limit_bytes: u64,
    },
}

impl RunRecord {
    /// True where each process did what it was meant to.
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
    /// True where the process was killed because it took too long.
    pub fn timed_out(&self) -> bool {
        matches!(self.ending, Ending::TimedOut { .. })
    }
}
