//! Which invariants a scenario requires of its runs.

use serde::{Deserialize, Serialize};

/// An invariant that must hold over some runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// `family/name`.
    pub invariant: String,
    /// The runs that it judges: a name, or a prefix and `*`. Defaults to every run.
    #[serde(default = "every")]
    pub runs: String,
    /// The run to compare them with, for an invariant over pairs.
    #[serde(default)]
    pub against: Option<String>,
}

fn every() -> String {
    "*".to_owned()
}

/// True if `pattern` is `name`, or a prefix of `name` followed by `*`.
pub fn selects(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name,
    }
}
