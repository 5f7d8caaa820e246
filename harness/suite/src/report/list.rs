//! The catalogue at a glance.

use std::collections::BTreeSet;
use std::fmt::Write;

use serde::Serialize;
use traintrue_judge::rules::RULES;
use traintrue_protocol::plan::SCHEMA;
use traintrue_protocol::vocabulary::{Capability, Component};

use crate::scenario::Catalogue;

/// The document of `list`.
#[derive(Debug, Serialize)]
pub struct Listing {
    /// The version of this document.
    pub schema: u32,
    /// Every scenario.
    pub scenarios: Vec<Entry>,
    /// Every planted fault.
    pub faults: Vec<Entry>,
    /// Every invariant.
    pub invariants: Vec<Entry>,
    /// Every part of a trainer that a finding can name.
    pub components: Vec<Entry>,
    /// Everything that a trainer can be asked to do.
    pub capabilities: Vec<Entry>,
    /// Every bug class.
    pub classes: Vec<String>,
}

/// One scenario, fault, invariant, component or capability.
#[derive(Debug, Serialize)]
pub struct Entry {
    /// Its id or name.
    pub id: String,
    /// What it is, in a line.
    pub says: String,
    /// A fault's scenario.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub scenario: Option<String>,
    /// A scenario's bug class.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
}

/// Lists `catalogue`.
pub fn list(catalogue: &Catalogue) -> Listing {
    let entry = |id: &str, says: &str, scenario: Option<&str>, class: Option<&str>| Entry {
        id: id.to_owned(),
        says: says.trim().to_owned(),
        scenario: scenario.map(str::to_owned),
        class: class.map(str::to_owned),
    };
    let all = catalogue.all();
    Listing {
        schema: SCHEMA,
        scenarios: all.iter().map(|it| entry(&it.id, &it.title, None, Some(&it.class))).collect(),
        faults: catalogue.faults().map(|(of, it)| entry(&it.id, &it.what, Some(&of.id), None)).collect(),
        invariants: RULES.iter().map(|it| entry(it.name, it.says, None, None)).collect(),
        components: Component::ALL.iter().map(|it| entry(it.name(), it.meaning(), None, None)).collect(),
        capabilities: Capability::ALL.iter().map(|it| entry(it.name(), it.meaning(), None, None)).collect(),
        classes: all.iter().map(|it| it.class.clone()).collect::<BTreeSet<_>>().into_iter().collect(),
    }
}

/// A listing as text.
pub fn text(listing: &Listing) -> String {
    let mut text = String::new();
    for (head, entries) in [
        ("scenarios", &listing.scenarios),
        ("faults", &listing.faults),
        ("invariants", &listing.invariants),
        ("components", &listing.components),
        ("capabilities", &listing.capabilities),
    ] {
        let width = entries.iter().map(|it| it.id.chars().count()).max().unwrap_or(0);
        // Writing to a string does not fail.
        let _ = writeln!(text, "{head}");
        for it in entries {
            let _ = writeln!(text, "  {:<width$}  {}", it.id, it.says);
        }
        text.push('\n');
    }
    let _ = writeln!(text, "classes\n  {}", listing.classes.join(", "));
    text
}
