//! What an invariant is: its name, its texts, what it looks at and how it judges.

use std::path::PathBuf;

use traintrue_protocol::contract::Contract;
use traintrue_protocol::plan::Plan;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Line, TraceError};

use crate::finding::Sheet;

/// One invariant, as `list` and `explain` show it.
pub struct Rule {
    /// `family/name`.
    pub name: &'static str,
    /// What must be true, in one line.
    pub says: &'static str,
    /// What it verifies, and how.
    pub verifies: &'static str,
    /// What it does not.
    pub does_not_verify: &'static str,
    /// What it looks at.
    pub kind: Kind,
    /// What it holds against each other: this decides how a trainer that is not deterministic is judged.
    pub compares: Compares,
    /// Whether it also judges a run whose last process failed to start: it asks what a start finds on disk.
    pub judges_a_start: bool,
    /// Its place among causes: of two broken invariants the one of the lower rank is the likelier root, and is printed first.
    pub rank: Rank,
    /// What it must know of a recorded loop, which was told no plan, beside the trace itself.
    pub needs: &'static [Fact],
}

/// What an invariant holds against each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compares {
    /// Counts, flags and figures of one trace, by arithmetic: the same for every trainer.
    Facts,
    /// Two runs, value by value. Where the trainer is not deterministic: within the spread of its repeats.
    Bits,
    /// Two runs that differ by rounding: within a bound, or within the spread of repeats where that is wider.
    Figures,
    /// Two runs of one plan: whether the trainer is deterministic in the first place.
    Repeats,
    /// A saved state by its digest, among many. A trainer that is not deterministic has no such digests, and is not judged.
    Digests,
}

impl Compares {
    /// Whether the figures of one run are held to those of another.
    pub fn two_runs(self) -> bool {
        matches!(self, Self::Bits | Self::Figures | Self::Repeats)
    }

    /// Whether a comparison that held means equal bits, as long as the trainer is deterministic.
    pub fn bit_for_bit(self) -> bool {
        matches!(self, Self::Bits | Self::Repeats | Self::Digests)
    }

    /// Whether a trainer that declares itself deterministic, wrongly, breaks it without a bug.
    pub fn rests_on_bits(self) -> bool {
        matches!(self, Self::Bits | Self::Figures | Self::Digests)
    }
}

/// The place of an invariant among causes. A lost window also moves every loss after it, so the window comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// The process did not answer, or not with a trace.
    Process,
    /// Samples were lost or repeated.
    Samples,
    /// Windows closed at other places.
    Window,
    /// A resume changed the state or the path.
    Seam,
    /// A reload lost or changed tensors.
    Reload,
    /// A checkpoint is torn, or damage was not noticed.
    Checkpoint,
    /// A batch was collated otherwise.
    Batch,
    /// A key-value cache was there, or gave other outputs.
    Cache,
    /// Something froze, moved or trained that should not.
    State,
    /// An evaluation missed samples or changed the state.
    Evaluation,
    /// An act beside training changed training.
    Purity,
    /// Gradients were clipped otherwise.
    Clip,
    /// A loss was divided by something else.
    Loss,
    /// Other micro-batches made another update.
    Partition,
    /// A learning rate is not the schedule's.
    Schedule,
    /// A number is not finite: mostly a consequence.
    Finite,
    /// Outputs depend on padding or on neighbours.
    Probes,
    /// The same plan gave another trace.
    Repeat,
    /// Memory was kept, or estimated wrongly.
    Memory,
    /// A device was too small.
    Device,
    /// A file that a run left is wrong.
    Artefact,
}

/// What an invariant looks at.
pub enum Kind {
    /// Every trace on its own, a line at a time. It is judged on every trace of every scenario.
    Trace(fn(&Opening) -> Box<dyn Watch>),
    /// The segments of one run, where a scenario asks for it.
    Run(fn(&RunEvidence, &mut Sheet) -> Result<(), TraceError>),
    /// A run held against another, where a scenario asks for it.
    Pair(fn(&RunEvidence, &RunEvidence, &mut Sheet) -> Result<(), TraceError>),
    /// What the harness saw of a process, beside its trace.
    Process,
    /// Files that a run has left behind, other than a trace.
    Artefact,
}

/// What is known before the second line of a trace: its plan and the trainer's contract.
pub struct Opening<'a> {
    /// What was asked for.
    pub plan: &'a Plan,
    /// The conventions declared.
    pub contract: &'a Contract,
}

/// An invariant over one trace: it sees each line after the first, once, in order.
pub trait Watch {
    /// The next line.
    fn see(&mut self, line: &Line, sheet: &mut Sheet);
    /// The trace is over; `last` is its last line.
    fn finish(&mut self, _last: &Line, _sheet: &mut Sheet) {}
}

/// The traces that one run left, one a segment: a run that was cut has several.
#[derive(Clone, Debug)]
pub struct RunEvidence {
    /// The run's name.
    pub name: String,
    /// Its trace files, in order.
    pub segments: Vec<PathBuf>,
    /// The trace files of each repeat of it, for a trainer that is not deterministic: its figures are held to their spread.
    pub repeats: Vec<Vec<PathBuf>>,
}
