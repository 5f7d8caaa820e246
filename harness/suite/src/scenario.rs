//! A scenario: one TOML file that says which bug class it guards against, which runs to make, which invariants must hold
//! over them and which faults must break them.

mod catalogue;
mod corpus;
mod expand;
mod file;
mod offer;
mod places;
mod plan;
mod randomise;
mod read;
mod version;

pub use catalogue::{Catalogue, CatalogueError, Refused};
pub use corpus::{Corpus, CorpusError, TOKENS};
pub use expand::{ConcreteRun, DIED, Dies, ExpandError, Expansion, Segment, expand};
pub use file::{Cut, Damage, DamageKind, Deaths, EachCut, PlannedFault, RunSpec, Scenario, Thread};
pub use plan::{DataSpec, PlanSpec};
pub use randomise::randomised;
pub use read::ScenarioError;
pub(crate) use read::line_of;
pub use version::{Pin, Version, VersionError};

#[cfg(test)]
mod tests;
