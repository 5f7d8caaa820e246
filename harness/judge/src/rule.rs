//! What an invariant is: its name, its texts, what it reads and how it judges.

use std::path::PathBuf;

use traintrue_logs::Precision;
use traintrue_protocol::contract::Contract;
use traintrue_protocol::plan::Plan;
use traintrue_protocol::trace::recorded::{Fact, Recorded};
use traintrue_protocol::trace::{Line, TraceError};

use crate::finding::Sheet;

/// One invariant, as `list` and `explain` show it.
pub struct Rule {
    /// `family/name`.
    pub name: &'static str,
    /// What must be true, in one line, without a full stop.
    pub says: &'static str,
    /// What it compares with what. `explain` shows it as prose.
    pub verifies: &'static str,
    /// What a reader might expect it to verify and it does not, with the invariant that does.
    pub does_not_verify: &'static str,
    /// What it reads: one trace, one run, two runs, a process or files.
    pub kind: Kind,
    /// What it compares. This decides how a trainer that is not deterministic is judged.
    pub compares: Compares,
    /// Whether it also judges a run whose last process failed. A rule about what a start finds on disk must.
    pub judges_a_start: bool,
    /// Its place among causes. Of two broken invariants, the one with the lower rank is the likelier root and is
    /// printed first.
    pub rank: Rank,
    /// Facts that it needs about a recorded loop. A recorded loop follows no plan of ours, so a recording may lack
    /// them.
    pub needs: &'static [Fact],
}

impl Rule {
    /// Whether it judges a trace: of a recorded loop only with the facts that it needs, and by what a recorder observes
    /// only a recorded loop.
    pub fn applies_to(&self, recorded: Option<&Recorded>) -> bool {
        match recorded {
            Some(recorded) => recorded.lacks(self.needs).is_none(),
            None => !self.needs.contains(&Fact::Observed),
        }
    }
}

/// What an invariant compares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Compares {
    /// Counts, flags and numbers of one trace with the judge's own arithmetic. The same for every trainer.
    Facts,
    /// Two runs, value by value. If the trainer is not deterministic: within the spread of its repeats.
    Bits,
    /// Two runs that differ by rounding: within a bound, or within the spread of repeats if that is wider.
    Figures,
    /// Two runs of one plan: whether the trainer is deterministic.
    Repeats,
    /// Identifies a saved state by its digest. Applies only to deterministic trainers.
    Digests,
}

impl Compares {
    /// Whether the values of one run are compared with those of another.
    pub fn two_runs(self) -> bool {
        matches!(self, Self::Bits | Self::Figures | Self::Repeats)
    }

    /// Whether a comparison that held means equal bits, if the trainer is deterministic.
    pub fn bit_for_bit(self) -> bool {
        matches!(self, Self::Bits | Self::Repeats | Self::Digests)
    }

    /// Whether a trainer that wrongly declares itself deterministic breaks it without having a bug.
    pub fn rests_on_bits(self) -> bool {
        matches!(self, Self::Bits | Self::Figures | Self::Digests)
    }
}

/// The place of an invariant among causes. A lost window also changes every later loss, so the window comes first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Rank {
    /// The process failed, or did not write a trace.
    Process,
    /// Samples were lost or repeated.
    Samples,
    /// Accumulation windows closed at the wrong place.
    Window,
    /// Ranks do not average their gradients, or do not train one model.
    Ranks,
    /// A resume changed the state or the training after it.
    Seam,
    /// A reload lost or changed tensors.
    Reload,
    /// A checkpoint is incomplete, or its damage was not noticed.
    Checkpoint,
    /// A batch was collated wrongly.
    Batch,
    /// Training allocated a key-value cache, or the cache gave other outputs.
    Cache,
    /// A wrong tensor is frozen, trained or changed.
    State,
    /// An evaluation missed samples or changed the state.
    Evaluation,
    /// Evaluating or saving changed training.
    Purity,
    /// Outputs depend on padding, on other rows or on later tokens.
    Probes,
    /// Gradients were clipped wrongly.
    Clip,
    /// A loss was divided by the wrong number.
    Loss,
    /// An operation gives other values on one backend than on another.
    Backend,
    /// The split into micro-batches changed the update.
    Partition,
    /// A learning rate does not follow the schedule.
    Schedule,
    /// An optimizer step is not the plan's.
    Arithmetic,
    /// A number is not finite; mostly a consequence.
    Finite,
    /// Two runs of one plan gave different traces.
    Repeat,
    /// Memory was kept, or estimated wrongly.
    Memory,
    /// A device was too small.
    Device,
    /// A file that a run left is wrong.
    Artefact,
}

/// Judges the ranks of one run, in their order, and the run to compare with.
pub type JudgeRanks = fn(&[&RunEvidence], Option<&RunEvidence>, &mut Sheet) -> Result<(), TraceError>;

/// What an invariant reads.
pub enum Kind {
    /// One trace, line by line. It judges every trace of every scenario.
    Trace(fn(&Opening) -> Box<dyn TraceRule>),
    /// The segments of one run, if a scenario asks for it.
    Run(fn(&RunEvidence, &mut Sheet) -> Result<(), TraceError>),
    /// Two runs, if a scenario asks for it: the run to judge, then the one to compare with.
    Pair(fn(&RunEvidence, &RunEvidence, &mut Sheet) -> Result<(), TraceError>),
    /// The ranks of one run, in their order, if a scenario asks for it; and the run to compare with, where it names one.
    Ranks(JudgeRanks),
    /// What the harness observes of a process besides its trace.
    Process,
    /// Files that a run has left behind, other than a trace.
    Artefact,
}

/// The name of one rank of a run whose ranks train together.
pub fn rank_name(run: &str, rank: u64) -> String {
    format!("{run}.rank-{rank}")
}

/// The name of the run that a rank belongs to. Any other name is its own: none of a scenario has a dot.
pub fn run_name(name: &str) -> &str {
    name.split_once(".rank-").map_or(name, |(run, _)| run)
}

/// What the counterpart of the process `of` in the run `run` is called: the rank of the same number, or the run itself.
pub fn counterpart_name(run: &str, of: &str) -> String {
    format!("{run}{}", of.strip_prefix(run_name(of)).unwrap_or_default())
}

/// What the first line of a trace gives: the plan and the trainer's contract, or what is known of a recorded loop.
pub struct Opening<'a> {
    /// The plan that the trainer was given.
    pub plan: &'a Plan,
    /// The conventions that the trainer declares.
    pub contract: &'a Contract,
    /// What is known of a loop that was told no plan; `plan` is then a stand-in.
    pub recorded: Option<&'a Recorded>,
    /// How the numbers are rounded: those of a trace are not.
    pub precision: Precision,
}

/// The state of an invariant over one trace. It sees each line after the first once, in order, so memory does not grow
/// with the trace.
pub trait TraceRule {
    /// The next line.
    fn see(&mut self, line: &Line, sheet: &mut Sheet);
    /// The trace is over; `last` is its last line.
    fn finish(&mut self, _last: &Line, _sheet: &mut Sheet) {}
}

/// The traces of one run, one per segment: a run that was cut has several.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RunEvidence {
    /// The run's name.
    pub name: String,
    /// Its trace files, in order.
    pub segments: Vec<PathBuf>,
    /// The trace files of each repeat, if the trainer is not deterministic. Values may differ by the spread of the
    /// repeats.
    pub repeats: Vec<Vec<PathBuf>>,
}
