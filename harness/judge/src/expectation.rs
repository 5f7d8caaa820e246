//! Which invariants a scenario requires of its runs.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};
use serde::{Deserialize, Serialize};

use crate::rule::run_name;
use crate::rules::RULES;

/// An invariant that must hold over some runs.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Expectation {
    /// The invariant, as `family/name`.
    #[schemars(with = "InvariantName")]
    pub invariant: String,
    /// The runs to judge: a name, or a prefix and `*`; absent is every run.
    #[serde(default = "every")]
    pub runs: String,
    /// The run that they are compared with, for an invariant over pairs of runs.
    #[serde(default)]
    pub against: Option<String>,
}

/// In JSON Schema, the name of an invariant that exists: editors then offer all of them.
pub struct InvariantName;

impl JsonSchema for InvariantName {
    fn schema_name() -> Cow<'static, str> {
        "InvariantName".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        let names = RULES.iter().map(
            |rule| serde_json::json!({ "const": rule.name, "type": "string", "description": rule.says }),
        );
        json_schema!({ "oneOf": names.collect::<Vec<_>>() })
    }
}

fn every() -> String {
    "*".to_owned()
}

/// True if `pattern` is `name`, or a prefix of `name` followed by `*`. What selects a run selects each of its ranks.
pub fn selects(pattern: &str, name: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(prefix) => name.starts_with(prefix),
        None => pattern == name || pattern == run_name(name),
    }
}
