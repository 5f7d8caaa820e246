//! The fault-free run: its operations in order, and `{out}` before each of them.

use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};

use super::operation::{Kind, Operation};
use super::trace::Watch;
use super::tree::{Store, Tree};

/// An operation, and `{out}` just before it. Writes to one file with no other kind of operation between them are one step.
#[derive(Clone, Debug)]
pub struct Step {
    /// What happens.
    pub operation: Operation,
    /// What SIGKILL would leave just before.
    pub before: Tree,
}

/// Watches the fault-free run.
#[derive(Debug)]
pub struct Observer<'a> {
    /// The steps so far.
    pub steps: Vec<Step>,
    root: &'a Path,
    store: &'a mut Store,
    /// Files that were written since the last operation that was no write.
    writing: BTreeSet<PathBuf>,
}

impl<'a> Observer<'a> {
    /// Of a run that writes below `root`.
    pub fn new(root: &'a Path, store: &'a mut Store) -> Self {
        Self { steps: Vec::new(), root, store, writing: BTreeSet::new() }
    }

    fn goes_on(&self, operation: &Operation) -> bool {
        operation.kind == Kind::Write && self.writing.contains(&operation.path)
    }
}

impl Watch for Observer<'_> {
    /// Nothing for an operation that makes no step.
    type Held = Option<Tree>;

    fn enter(&mut self, operation: &Operation) -> io::Result<Self::Held> {
        if operation.kind == Kind::Read || self.goes_on(operation) {
            return Ok(None);
        }
        self.store.read(self.root).map(Some)
    }

    fn leave(&mut self, operation: Operation, held: Self::Held) {
        let Some(before) = held else { return };
        match operation.kind {
            Kind::Write => drop(self.writing.insert(operation.path.clone())),
            _ => self.writing.clear(),
        }
        self.steps.push(Step { operation, before });
    }
}

/// Watches a resume: which files that it found it reads, and which names it makes.
#[derive(Debug, Default)]
pub struct Resumed {
    /// Files that were there before.
    pub read: BTreeSet<PathBuf>,
    /// In order.
    pub made: Vec<PathBuf>,
}

impl Watch for Resumed {
    type Held = ();

    fn enter(&mut self, _: &Operation) -> io::Result<()> {
        Ok(())
    }

    fn leave(&mut self, operation: Operation, (): ()) {
        if let Some(made) = operation.makes() {
            self.made.push(made.to_owned());
        } else if operation.kind == Kind::Read && !self.made.contains(&operation.path) {
            self.read.insert(operation.path);
        }
    }
}
