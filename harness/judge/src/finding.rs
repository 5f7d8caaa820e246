//! What an invariant says: how much it compared, and the first event that broke it.

use std::collections::BTreeMap;
use std::fmt;

use serde::{Deserialize, Serialize};
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

/// Where in training a finding stands.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct At {
    /// The event's name.
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
    /// Its name, where it is no event of a trace: a tensor's.
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
    /// The run.
    pub run: String,
    /// The line of its trace, from 1; 0 in a file that has no lines.
    pub line: u64,
    /// The place in training.
    pub at: At,
    /// What the invariant asks for.
    pub expected: String,
    /// What the trace has.
    pub actual: String,
    /// The likely cause, in a sentence.
    pub cause: String,
    /// The command that shows it again.
    #[serde(default)]
    pub reproduce: String,
    /// The trace file.
    #[serde(default)]
    pub trace: String,
    /// Who has looked at it said that it is known: it is shown, and does not count.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub waived: Option<Waived>,
}

/// Why a finding does not count, and how long.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Waived {
    /// The reason that was given.
    pub reason: String,
    /// The last day, as `2027-03-31`.
    pub until: String,
}

impl fmt::Display for Waived {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "waived: {} until {}", self.reason, self.until)
    }
}

/// An invariant's working sheet over one trace, run or pair: it counts comparisons and keeps the first that failed.
#[derive(Debug, Default)]
pub struct Sheet {
    /// Comparisons made.
    pub compared: u64,
    /// The first that failed.
    pub broken: Option<Broken>,
    /// Why nothing, or not everything, could be compared.
    pub missing: Option<String>,
    /// What was counted on the way, by name: updates, micro-batches, positions, tokens.
    pub counted: BTreeMap<&'static str, u64>,
    /// What a reader of the verdict should know.
    pub remarks: Vec<String>,
}

/// A failed comparison, before it is known which run and file it stands in.
#[derive(Clone, Debug)]
pub struct Broken {
    /// The segment of the run that it stands in, from 0.
    pub segment: usize,
    /// The line of that segment's trace.
    pub line: u64,
    /// The place in training.
    pub at: At,
    /// What was asked for.
    pub expected: String,
    /// What is there.
    pub actual: String,
    /// The component most likely at fault.
    pub component: Component,
    /// The likely cause.
    pub cause: String,
}

impl Sheet {
    /// Counts one comparison; where it does not hold, keeps `describe` if it is the first.
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

    /// [`Sheet::check`] of what stands in a file that is no trace: at `line`, which is 0 where the file has no lines.
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
            self.broken = Some(Broken { segment, line, at, expected, actual, component, cause });
        }
        holds
    }

    /// Notes a field that the trace does not have.
    pub fn missing(&mut self, what: &str) {
        self.missing.get_or_insert_with(|| format!("no {what} in the trace"));
    }

    /// Notes why something that is in the trace cannot be compared.
    pub fn cannot(&mut self, why: &str) {
        self.missing.get_or_insert_with(|| why.to_owned());
    }

    /// What a comparison needs, where there is any: else notes why it cannot be made.
    pub fn able<T>(&mut self, needed: Result<T, impl fmt::Display>) -> Option<T> {
        needed.map_err(|why| self.cannot(&why.to_string())).ok()
    }

    /// Says what a reader of the verdict should know.
    pub fn remark(&mut self, what: String) {
        self.remarks.push(what);
    }

    /// Adds to a count that the report shows; it is not a comparison.
    pub fn count(&mut self, what: &'static str, more: u64) {
        *self.counted.entry(what).or_default() += more;
    }
}

/// What a failed comparison says.
pub struct Difference {
    /// What was asked for.
    pub expected: String,
    /// What is there.
    pub actual: String,
    /// The component most likely at fault.
    pub component: Component,
    /// The likely cause, in a sentence.
    pub cause: String,
}
