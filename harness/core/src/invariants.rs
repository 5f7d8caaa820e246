//! Invariants: pure functions from traces to findings and to the number of comparisons made.
//!
//! One file an invariant, or a family that shares its reading. Each opens with what it verifies and what it does not.

pub(crate) mod artefact;
mod batch;
mod cache;
mod checkpoints;
mod clip;
mod ends;
mod estimate;
mod evaluation_mean;
mod evaluation_pure;
mod falls_back;
mod fields;
pub(crate) mod finite;
mod frozen;
#[cfg(test)]
mod hostile;
mod ledger;
mod loss_scale;
mod memory_back;
mod memory_breaker;
mod memory_flat;
mod memory_process;
mod moves;
mod oom;
mod partition;
mod peak;
mod place;
mod probe_rows;
mod probes;
pub mod protocol_answers;
mod purity;
mod reload_outputs;
mod reload_sets;
mod repeat;
mod same;
pub(crate) mod schedule;
mod seam;
mod spread;
mod steps;
mod stream;
#[cfg(test)]
pub(crate) mod testing;
mod trainable;
mod window;

use std::path::PathBuf;

use crate::contract::Contract;
use crate::finding::Sheet;
use crate::plan::Plan;
use crate::trace::{Line, TraceError};

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

/// Every invariant, in the order that `list` shows them.
pub static RULES: &[&Rule] = &[
    &protocol_answers::RULE,
    &ends::RULE,
    &ledger::RULE,
    &window::RULE,
    &schedule::RULE,
    &batch::RULE,
    &loss_scale::RULE,
    &clip::RULE,
    &finite::RULE,
    &frozen::RULE,
    &trainable::RULE,
    &moves::RULE,
    &evaluation_pure::RULE,
    &evaluation_mean::RULE,
    &cache::RULE,
    &probes::ROWS,
    &probes::WIDTH,
    &probes::CACHE,
    &reload_outputs::RULE,
    &reload_sets::RULE,
    &seam::RULE,
    &purity::RULE,
    &repeat::RULE,
    &partition::RULE,
    &checkpoints::OLD_OR_NEW,
    &checkpoints::DAMAGE,
    &peak::RULE,
    &memory_flat::RULE,
    &memory_process::RULE,
    &memory_breaker::RULE,
    &estimate::RULE,
    &memory_back::RULE,
    &falls_back::RULE,
    &oom::TOLD,
    &oom::LEAVES,
    &artefact::log::RULE,
    &artefact::epochs::RULE,
    &artefact::best::RULE,
    &artefact::continues::RULE,
    &artefact::adapter::SHAPES,
    &artefact::adapter::SCALE,
    &artefact::adapter::LEARNS,
    &artefact::targets::TARGETS,
    &artefact::targets::MODULES_TO_SAVE,
    &artefact::tensors::FINITE,
    &artefact::tensors::ZERO,
    &artefact::shards::RULE,
    &artefact::moves::SAME,
    &artefact::moves::MOVES,
];

/// The invariant of that name.
pub fn find(name: &str) -> Option<&'static Rule> {
    RULES.iter().copied().find(|rule| rule.name == name)
}
