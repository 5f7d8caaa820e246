//! The result of a watched command: how it ended, and the verdict on each lane.

use std::fmt::{self, Write as _};
use std::os::unix::process::ExitStatusExt;

use serde::Serialize;
use traintrue_protocol::exit::Exit;

use super::{Reason, Sent, Stopped, Watched};
use crate::bytes::{Bytes, BytesPerStep, Per, Rate};
use crate::gate::{Gate, Held, Judged};
use crate::series::Recording;
use crate::slope::SlopeVerdict;

/// The version of the document. Raised when a field changes its meaning or goes.
const SCHEMA: u32 = 1;

/// Why a limit per step is not judged: without steps, growth is known per second only.
const NO_STEPS: &str = "the limit is per step and no steps were seen: give --step or --trace";

/// The document of `watch`.
#[derive(Clone, Debug, Serialize)]
pub struct WatchReport {
    /// The version of this document.
    pub schema: u32,
    /// The exit status of the command; `None` where a signal ended it.
    pub command_exit: Option<i32>,
    /// The number of the signal that ended the command.
    pub command_signal: Option<i32>,
    /// Why and how the command was stopped, if it was.
    pub stopped: Option<Stopped>,
    /// Processes of the command that are still alive.
    pub survivors: Vec<i32>,
    /// The verdict on each lane.
    pub series: Vec<LaneReport>,
    #[serde(skip)]
    held_to: HeldTo,
}

/// The verdict on one lane, as the gate gives it.
#[derive(Clone, Debug, Serialize)]
pub struct LaneReport {
    /// The unit of growth. If it is seconds, each step in the numbers is a second.
    pub per: Per,
    /// The verdict.
    #[serde(flatten)]
    pub judged: Judged,
}

/// Which limits were set.
#[derive(Clone, Copy, Debug)]
struct HeldTo {
    slope: bool,
    memory: bool,
}

impl WatchReport {
    /// Judges the samples against `limit`. The series get `file` as their file name.
    pub fn of(watched: &Watched, limit: Option<Rate>, max_memory: Option<Bytes>, file: &str) -> Self {
        let seen = watched.record.per();
        let per = limit.map_or(seen, |limit| limit.per);
        // Without steps, the growth can only be given per second.
        let counted = if per == Per::Step { seen } else { per };
        let recording = Recording { series: watched.record.series(file, counted), ..Recording::default() };
        let max_slope = limit.filter(|limit| limit.per == counted).map(|limit| BytesPerStep(limit.bytes));
        let gate = Gate::of(&[recording], Held { max_slope, capacity: max_memory, ..Held::default() });
        let report = |mut judged: Judged| {
            if limit.is_some() && max_slope.is_none() {
                judged.reason = NO_STEPS.to_owned();
            } else if counted == Per::Second {
                // The gate's texts say "step".
                judged.reason = judged.reason.replace("step", "second");
            }
            LaneReport { per: counted, judged }
        };
        Self {
            schema: SCHEMA,
            command_exit: watched.exit.code(),
            command_signal: watched.exit.signal(),
            stopped: watched.stopped.clone(),
            survivors: watched.survivors.clone(),
            series: gate.series.into_iter().map(report).collect(),
            held_to: HeldTo { slope: limit.is_some(), memory: max_memory.is_some() },
        }
    }

    /// The exit status. Broken: the command failed or exceeded a limit. Not judged: no limit was set, or none could be
    /// judged.
    pub fn exit(&self) -> Exit {
        let any = |verdict| self.series.iter().any(|lane| lane.judged.verdict == verdict);
        if self.command_exit != Some(0) || self.stopped.is_some() || any(SlopeVerdict::Exceeds) {
            return Exit::Broken;
        }
        match self.held_to {
            HeldTo { slope: true, .. } if any(SlopeVerdict::NotJudged) => Exit::NotJudged,
            HeldTo { slope: false, memory: false } => Exit::NotJudged,
            _ => Exit::Held,
        }
    }

    /// The report as text for a terminal.
    pub fn text(&self) -> String {
        let mut text = String::new();
        let ended = match (self.command_exit, self.command_signal) {
            (Some(code), _) => format!("ended with exit status {code}"),
            (None, Some(signal)) => format!("was ended by signal {signal}"),
            (None, None) => "ended".to_owned(),
        };
        // Writing to a string does not fail.
        let _ = writeln!(text, "the command {ended}");
        if let Some(stopped) = &self.stopped {
            let _ = writeln!(text, "stopped: {stopped}");
        }
        if !self.survivors.is_empty() {
            let pids: Vec<String> = self.survivors.iter().map(i32::to_string).collect();
            let _ = writeln!(text, "processes still alive: {}", pids.join(", "));
        }
        for lane in &self.series {
            let _ = writeln!(text, "{lane}");
        }
        text
    }
}

impl fmt::Display for LaneReport {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Judged { lane, verdict, peak, slope_per_step, low, high, .. } = &self.judged;
        let verdict = match verdict {
            SlopeVerdict::Within => "within",
            SlopeVerdict::Exceeds => "exceeds",
            SlopeVerdict::NotJudged => "not judged",
        };
        let rate = |bytes: f64| Rate { bytes, per: self.per };
        write!(to, "{lane}: {verdict}: at most {}", Bytes(*peak))?;
        // Without an interval there were too few points for a slope.
        if let (Some(low), Some(high)) = (*low, *high) {
            let slope = rate(*slope_per_step);
            write!(to, ", growth {slope} (from {} to {})", rate(low), rate(high))?;
        }
        write!(to, "; {}", self.judged.reason)?;
        match &self.judged.attribution {
            Some(attribution) => write!(to, "; {attribution}"),
            None => Ok(()),
        }
    }
}

impl fmt::Display for Stopped {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (bytes, limit) = (Bytes(self.bytes), Bytes(self.limit_bytes));
        match self.reason {
            Reason::MaxMemory => write!(to, "its processes hold {bytes}, --max-memory is {limit}")?,
            Reason::MachineMemory => write!(to, "the machine had {bytes} left, less than {limit}")?,
        }
        if let Some(step) = self.step {
            write!(to, ", at step {step}")?;
        }
        match self.signal {
            Sent::Term => write!(to, "; it was sent SIGTERM"),
            Sent::Kill => write!(to, "; it was sent SIGTERM, and SIGKILL when it did not end"),
        }
    }
}
