//! The catalogue as one page: every bug with where it hit whom, every invariant with what it does not verify, every fault,
//! and where to look. It needs no network; its script only hides what a search does not find, and without it the page is
//! whole.

use std::collections::BTreeSet;

use maud::{DOCTYPE, Markup, PreEscaped, html};
use traintrue_judge::rule::Rule;
use traintrue_judge::rules::RULES;
use traintrue_protocol::vocabulary::{Capability, Component};

use super::html::head;
use super::printable::printable;
use crate::scenario::{Catalogue, PlannedFault, Scenario};

const STYLE: &str = include_str!("catalogue/catalogue.css");
const SCRIPT: &str = include_str!("catalogue/search.js");
/// Of [`SCRIPT`], in the form that a policy names it by: nothing else may run, even where an escape were forgotten.
const SCRIPT_DIGEST: &str = "sha256-oew3/Y+CPFA94UgT9nDuiRV+BjaQ6D3Z9bN/sbCjAAs=";

/// The page of a catalogue.
pub fn page(catalogue: &Catalogue) -> String {
    let scenarios: Vec<Scenario> = catalogue.all().iter().map(printable).collect();
    let classes: BTreeSet<&str> = scenarios.iter().map(|it| it.class.as_str()).collect();
    let faults: usize = scenarios.iter().map(|it| it.faults.len()).sum();
    let policy = format!("default-src 'none'; style-src 'unsafe-inline'; script-src '{SCRIPT_DIGEST}'");
    html! {
        (DOCTYPE)
        html lang="en" {
            (head("the catalogue", &policy, STYLE))
            body {
                header {
                    h1 { "The catalogue" }
                    p { (scenarios.len()) " scenarios, " (faults) " planted faults, " (RULES.len()) " invariants." }
                    nav {
                        @for class in &classes { a href={ "#class-" (class) } { (class) } }
                        a href="#invariants" { "invariants" }
                        a href="#components" { "components" }
                        a href="#capabilities" { "capabilities" }
                    }
                }
                div.search {
                    input type="search" hidden placeholder="a word, a project, an invariant" aria-label="search";
                    output {}
                }
                main {
                    @for class in &classes {
                        section {
                            h2 id={ "class-" (class) } { (class) }
                            @for it in scenarios.iter().filter(|it| it.class == *class) { (scenario(it)) }
                        }
                    }
                    section {
                        h2 id="invariants" { "Invariants" }
                        @for rule in RULES { (invariant(rule, &scenarios)) }
                    }
                    section {
                        h2 id="components" { "Components" }
                        p { "What a finding names, and where to look first." }
                        @for it in Component::ALL { (word("component", it.name(), it.meaning())) }
                    }
                    section {
                        h2 id="capabilities" { "Capabilities" }
                        p { "What a trainer can be asked to do." }
                        @for it in Capability::ALL { (word("capability", it.name(), it.meaning())) }
                    }
                }
                script { (PreEscaped(SCRIPT)) }
            }
        }
    }
    .into_string()
}

fn scenario(it: &Scenario) -> Markup {
    html! {
        article.entry data-entry id=(it.id) {
            h3 { (it.id) }
            p { strong { (it.title) } }
            p { (it.bug) }
            (prose("What it costs to miss it", &it.cost))
            @if !it.threads.is_empty() {
                h4 { "Where it hit" }
                ul { @for thread in &it.threads { li { strong { (thread.id) } ": " (thread.what) } } }
            }
            (prose("What came out", &it.settles))
            @if !it.expectations.is_empty() {
                h4 { "Must hold, beside what must hold over every trace" }
                ul { @for name in asked(it) { li { (link(name)) } } }
            }
            @if !it.faults.is_empty() {
                h4 { "Planted faults" }
                ul { @for fault in &it.faults { (planted(fault)) } }
            }
            h4 { "Run it" }
            p { code { "traintrue run " (it.id) } }
        }
    }
}

/// The invariants that a scenario asks for, each once.
fn asked(it: &Scenario) -> BTreeSet<&str> {
    it.expectations.iter().map(|asked| asked.invariant.as_str()).collect()
}

fn planted(fault: &PlannedFault) -> Markup {
    html! {
        li id=(fault.id) {
            strong { (fault.id) } ": " (fault.what) " Found by "
            @for (at, name) in fault.must.iter().enumerate() {
                @if at > 0 { ", " }
                (link(name))
            }
            "; look at " a href={ "#component-" (fault.component) } { (fault.component) } "."
        }
    }
}

fn invariant(rule: &Rule, scenarios: &[Scenario]) -> Markup {
    let asking = scenarios.iter().filter(|it| asked(it).contains(rule.name));
    let catches: Vec<&PlannedFault> = scenarios
        .iter()
        .flat_map(|it| &it.faults)
        .filter(|fault| fault.must.iter().any(|must| must == rule.name))
        .collect();
    html! {
        article.entry data-entry id={ "invariant-" (rule.name) } {
            h3 { (rule.name) }
            p { strong { (rule.says) } }
            (prose("Verifies", rule.verifies))
            (prose("Does not verify", rule.does_not_verify))
            (names("Asked for by", asking.map(|it| it.id.as_str())))
            (names("Must catch", catches.iter().map(|fault| fault.id.as_str())))
        }
    }
}

fn names<'a>(head: &str, ids: impl Iterator<Item = &'a str>) -> Markup {
    let ids: Vec<&str> = ids.collect();
    html! {
        @if !ids.is_empty() {
            h4 { (head) }
            p { @for (at, id) in ids.iter().enumerate() {
                @if at > 0 { ", " }
                a href={ "#" (id) } { (id) }
            } }
        }
    }
}

fn word(kind: &str, name: &str, meaning: &str) -> Markup {
    html! {
        article.entry data-entry id={ (kind) "-" (name) } {
            h3 { (name) }
            p { (meaning) }
        }
    }
}

fn prose(head: &str, text: &str) -> Markup {
    html! {
        @if !text.trim().is_empty() {
            h4 { (head) }
            p { (text) }
        }
    }
}

fn link(invariant: &str) -> Markup {
    html! { a href={ "#invariant-" (invariant) } { (invariant) } }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use sha2::{Digest, Sha256};

    use super::*;

    fn shipped() -> String {
        page(&Catalogue::load(None).unwrap())
    }

    /// What stands between `before` and the next quotation mark, each time.
    fn each<'a>(page: &'a str, before: &str) -> Vec<&'a str> {
        page.split(before).skip(1).filter_map(|rest| rest.split('"').next()).collect()
    }

    #[test]
    fn every_link_leads_to_the_one_entry_of_that_name() {
        let page = shipped();
        let entries = each(&page, " id=\"");
        let names: BTreeSet<&str> = entries.iter().copied().collect();
        assert_eq!(names.len(), entries.len(), "two entries have one name");
        for link in each(&page, "href=\"#") {
            assert!(names.contains(link), "{link}");
        }
    }

    #[test]
    fn everything_that_can_be_explained_is_an_entry() {
        let page = shipped();
        let catalogue = Catalogue::load(None).unwrap();
        let faults = catalogue.faults().map(|(_, fault)| fault.id.clone());
        let scenarios = catalogue.all().iter().map(|it| it.id.clone());
        let rules = RULES.iter().map(|rule| format!("invariant-{}", rule.name));
        for name in faults.chain(scenarios).chain(rules) {
            assert!(page.contains(&format!("id=\"{name}\"")), "{name}");
        }
    }

    #[test]
    fn the_policy_lets_its_own_script_run_and_no_other() {
        let digest = Sha256::digest(SCRIPT);
        let bits: String = digest.iter().map(|byte| format!("{byte:08b}")).collect::<String>() + "00";
        let letters = b"ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
        let sextets = bits.as_bytes().chunks_exact(6);
        let letter =
            |six: &[u8]| letters[six.iter().fold(0, |sum, &bit| 2 * sum + usize::from(bit == b'1'))] as char;
        assert_eq!(SCRIPT_DIGEST, format!("sha256-{}=", sextets.map(letter).collect::<String>()));
        assert_eq!(shipped().matches("<script").count(), 1);
    }

    #[test]
    fn what_a_scenario_says_is_text() {
        let mut scenario = Catalogue::load(None).unwrap().all()[0].clone();
        scenario.bug = "<script>alert(1)</script> \u{202e}".to_owned();
        let shown = super::scenario(&printable(&scenario)).into_string();
        assert!(shown.contains("&lt;script&gt;") && !shown.contains('\u{202e}'), "{shown}");
    }
}
