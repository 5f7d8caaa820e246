//! The result of an invariant: how much it compared, and the first event that broke it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

/// The place of a finding in training.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// The name of the trace event, or of what a file holds: `tensor`, `log`.
    pub event: String,
    /// Updates done, where the event says so.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub step: Option<u64>,
    /// The epoch, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub epoch: Option<u64>,
    /// The micro-batch within its epoch, from 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub index: Option<u64>,
    /// The name of the tensor, module or field, if the place is not a trace event.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub name: Option<String>,
}

impl At {
    /// The place of one event.
    pub fn event(event: &Event) -> Self {
        let (step, epoch, index) = match event {
            Event::MicroBatch(it) => (None, Some(it.epoch), Some(it.index)),
            Event::Update(it) => (Some(it.step), None, None),
            Event::State(it) => (Some(it.step), None, None),
            Event::Memory(it) => (Some(it.step), None, None),
            Event::Evaluation(it) => (Some(it.step), None, None),
            Event::Epoch(it) => (None, Some(it.epoch), None),
            Event::Checkpoint(it) => (Some(it.step), Some(it.epoch), None),
            _ => (None, None, None),
        };
        Self { event: event.name().to_owned(), step, epoch, index, name: None }
    }
}

/// The first event that broke an invariant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Finding {
    /// `family/name`.
    pub invariant: String,
    /// The part of a trainer that most likely caused it.
    pub component: Component,
    /// The name of the run, or of the checkpoint that is judged.
    pub run: String,
    /// The line in the trace, from 1. 0 in a file without lines.
    pub line: u64,
    /// The place in training.
    pub at: At,
    /// What the invariant requires here, with numbers.
    pub expected: String,
    /// What the trace or the file has here, with numbers.
    pub actual: String,
    /// What was measured and the likely place in the trainer's code, in one sentence.
    pub cause: String,
    /// The command that shows the finding again.
    #[serde(default)]
    pub reproduce: String,
    /// The trace file.
    #[serde(default)]
    pub trace: String,
    /// Waived: a known failure. It stays in the report and does not affect the exit status.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waived: Option<Waived>,
}

/// Why a finding is waived, and until when.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waived {
    /// The user's reason.
    pub reason: String,
    /// The last day of the waiver, as `2027-03-31`.
    pub until: String,
}

impl fmt::Display for Waived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waived: {} until {}", self.reason, self.until)
    }
}

/// What one invariant finds in one trace, run or pair: it counts comparisons and keeps the first that failed. Later
/// failures are mostly consequences.
#[derive(Debug, Default)]
pub struct Sheet {
    /// Comparisons made.
    pub compared: u64,
    /// The first that failed.
    pub broken: Option<Broken>,
    /// The first reason why something could not be compared.
    pub missing: Option<String>,
    /// Whether what is missing is the main fact. A scenario that asks for the invariant is then not judged, whatever else
    /// was compared.
    pub is_blind: bool,
    /// Counts for the report, by name: updates, micro-batches, positions, tokens.
    pub counted: BTreeMap<&'static str, u64>,
    /// Notes for the reader of the verdict.
    pub remarks: Vec<String>,
    /// What most of a recorded loop does, which the rest of the loop is held to: `windows of 4`.
    pub observed: Vec<String>,
    /// The update of the other run that a resumed recording goes on from. Its own trace counts from 1 again.
    pub resumed_from: Option<u64>,
}

/// A failed comparison. The tally adds the run and the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Broken {
    /// The rank that the finding is about, where the ranks of a run are judged together; else 0.
    pub rank: usize,
    /// The segment of the run, from 0.
    pub segment: usize,
    /// The line in that segment's trace, from 1.
    pub line: u64,
    /// The place in training.
    pub at: At,
    /// What the invariant requires here.
    pub expected: String,
    /// What the trace or the file has here.
    pub actual: String,
    /// The component most likely at fault.
    pub component: Component,
    /// What was measured and the likely place in the trainer's code.
    pub cause: String,
}

impl Sheet {
    /// Counts one comparison. If it is the first that fails, keeps what `describe` says. Returns `holds`.
    pub fn check(&mut self, holds: bool, line: &Line, describe: impl FnOnce() -> Difference) -> bool {
        self.check_in(0, holds, line, describe)
    }

    /// [`Sheet::check`] in a later segment of a run.
    pub fn check_in(
        &mut self,
        segment: usize,
        holds: bool,
        line: &Line,
        describe: impl FnOnce() -> Difference,
    ) -> bool {
        self.compare(holds, || (segment, line.number, At::event(&line.event)), describe)
    }

    /// [`Sheet::check_in`] in the trace of one rank, where those of a run are judged together.
    pub fn check_on(
        &mut self,
        (rank, segment): (usize, usize),
        holds: bool,
        line: &Line,
        describe: impl FnOnce() -> Difference,
    ) -> bool {
        let is_first = self.broken.is_none();
        let holds = self.check_in(segment, holds, line, describe);
        if let Some(broken) = self.broken.as_mut().filter(|_| is_first) {
            broken.rank = rank;
        }
        holds
    }

    /// Counts one comparison that was already made: it fails with this difference, or holds. Returns whether it holds.
    pub fn compared_in(&mut self, segment: usize, line: &Line, difference: Option<Difference>) -> bool {
        match difference {
            None => self.compared += 1,
            Some(difference) => return self.check_in(segment, false, line, || difference),
        }
        true
    }

    /// [`Sheet::check`] in a file that is not a trace, at `line`, or 0 if the file has no lines.
    pub fn check_at(
        &mut self,
        holds: bool,
        line: u64,
        at: impl FnOnce() -> At,
        describe: impl FnOnce() -> Difference,
    ) -> bool {
        self.compare(holds, || (0, line, at()), describe)
    }

    fn compare(
        &mut self,
        holds: bool,
        place: impl FnOnce() -> (usize, u64, At),
        describe: impl FnOnce() -> Difference,
    ) -> bool {
        self.compared += 1;
        if !holds && self.broken.is_none() {
            let (segment, line, at) = place();
            let Difference { expected, actual, component, cause } = describe();
            self.broken = Some(Broken { rank: 0, segment, line, at, expected, actual, component, cause });
        }
        holds
    }

    /// Notes a field that the trace lacks: the invariant compared nothing there.
    pub fn missing(&mut self, what: &str) {
        self.missing.get_or_insert_with(|| format!("no {what} in the trace"));
    }

    /// Notes that the trace lacks the fact that the invariant is about.
    pub fn blind(&mut self, what: &str) {
        self.missing(what);
        self.is_blind = true;
    }

    /// Notes why something cannot be compared although the trace has it.
    pub fn cannot(&mut self, why: &str) {
        self.missing.get_or_insert_with(|| why.to_owned());
    }

    /// The value that a comparison needs. On an error, notes why the comparison cannot be made.
    pub fn comparable<T>(&mut self, needed: Result<T, impl fmt::Display>) -> Option<T> {
        needed.map_err(|why| self.cannot(&why.to_string())).ok()
    }

    /// Adds a note for the reader of the verdict.
    pub fn remark(&mut self, what: String) {
        self.remarks.push(what);
    }

    /// Notes what most of a recorded loop does.
    pub fn observe(&mut self, what: String) {
        self.observed.push(what);
    }

    /// Adds to a count that the report shows beside the comparisons.
    pub fn count(&mut self, what: &'static str, more: u64) {
        *self.counted.entry(what).or_default() += more;
    }
}

/// The texts and the component of a failed comparison.
pub struct Difference {
    /// What the invariant requires here.
    pub expected: String,
    /// What the trace or the file has here.
    pub actual: String,
    /// The component most likely at fault.
    pub component: Component,
    /// What was measured and the likely place in the trainer's code, in one sentence.
    pub cause: String,
}
