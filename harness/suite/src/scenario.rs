//! A scenario: one TOML file that says which bug class it guards against, which runs to make, which invariants must hold
//! over them and which faults must break them.

mod catalogue;
mod corpus;
mod expand;
mod file;
mod randomise;
mod version;

pub use catalogue::{Catalogue, CatalogueError};
pub use corpus::{Corpus, CorpusError, TOKENS};
pub use expand::{ConcreteRun, DIED, Dies, ExpandError, Expansion, Segment, expand};
pub(crate) use file::line_of;
pub use file::{
    Cut, Damage, DamageKind, Deaths, EachCut, PlannedFault, RunSpec, Scenario, ScenarioError, Thread,
};
pub use randomise::randomised;
pub use version::{Pin, Version, VersionError};

#[cfg(test)]
mod tests;
