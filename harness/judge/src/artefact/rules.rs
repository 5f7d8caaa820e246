//! Invariants over files that a run has left behind: its log, its adapters, its weights.
//!
//! They judge only these files; no scenario asks for them.

pub(crate) mod adapter;
pub(crate) mod best;
pub(crate) mod continues;
pub(crate) mod epochs;
pub(crate) mod log;
pub(crate) mod moves;
pub(crate) mod patience;
pub(crate) mod shards;
pub(crate) mod signal;
pub(crate) mod targets;
pub(crate) mod tensors;
pub(crate) mod tied;

use crate::finding::{At, Difference, Sheet};

/// The place of a log entry.
fn entry(step: u64) -> At {
    At { event: "log".to_owned(), step: Some(step), ..At::default() }
}

/// The place of a tensor.
fn tensor(name: &str) -> At {
    named("tensor", name)
}

fn named(what: &str, name: &str) -> At {
    At { event: what.to_owned(), name: Some(name.to_owned()), ..At::default() }
}

impl Sheet {
    /// Counts one comparison of a tensor.
    fn tensor(&mut self, holds: bool, name: &str, describe: impl FnOnce() -> Difference) -> bool {
        self.check_at(holds, 0, || tensor(name), describe)
    }
}

#[cfg(test)]
mod testing {
    //! Assertions on a sheet.

    use crate::finding::Sheet;

    pub(super) fn holds(sheet: &Sheet) {
        assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
        assert!(sheet.compared > 0);
    }

    /// What broke: the name or the line, expected, actual and cause, on one line.
    pub(super) fn broke(sheet: &Sheet) -> String {
        let broken = sheet.broken.as_ref().expect("it is broken");
        let at = broken.at.name.clone().unwrap_or_default();
        format!("{at}: expected {}, found {}: {}", broken.expected, broken.actual, broken.cause)
    }
}
