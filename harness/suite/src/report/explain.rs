//! One scenario, fault, invariant, component or capability in full.

use traintrue_judge::rule::Rule;
use traintrue_judge::rules::RULES;
use traintrue_protocol::nearest::hint;
use traintrue_protocol::vocabulary::{Capability, Component};

use crate::scenario::{Catalogue, PlannedFault, Scenario};

/// The width that prose is wrapped to.
const COLUMNS: usize = 100;

/// A name that nothing has.
#[derive(Debug, thiserror::Error)]
#[error("no scenario, fault, invariant, component or capability is called {name:?}{hint}")]
pub struct Unknown {
    name: String,
    hint: String,
}

/// Explains what is called `name`.
pub fn explain(catalogue: &Catalogue, name: &str) -> Result<String, Unknown> {
    if let Some(it) = catalogue.find(name) {
        return Ok(scenario(it));
    }
    if let Some((of, it)) = catalogue.faults().find(|(_, fault)| fault.id == name) {
        return Ok(fault(of, it));
    }
    if let Some(it) = RULES.iter().find(|rule| rule.name == name) {
        return Ok(invariant(catalogue, it));
    }
    // A few words are both, such as `adapters`: the part of a trainer, and what the trainer can do.
    let components = Component::ALL.iter().filter(|it| it.name() == name).map(|&it| component(catalogue, it));
    let capabilities = Capability::ALL.iter().filter(|it| it.name() == name);
    let pages: Vec<String> = components.chain(capabilities.map(|&it| capability(catalogue, it))).collect();
    if !pages.is_empty() {
        return Ok(pages.join("\n"));
    }
    let scenarios = catalogue.all().iter().map(|it| it.id.as_str());
    let faults = catalogue.faults().map(|(_, it)| it.id.as_str());
    let words = Component::ALL.iter().map(|it| it.name()).chain(Capability::ALL.iter().map(|it| it.name()));
    let names = scenarios.chain(faults).chain(RULES.iter().map(|it| it.name)).chain(words);
    Err(Unknown { name: name.to_owned(), hint: hint(name, names) })
}

fn scenario(it: &Scenario) -> String {
    let mut page = Page::new(&it.id, "scenario", &it.title);
    page.section("class", &it.class);
    page.section("the bug", &it.bug);
    page.items("where it bit", it.threads.iter().map(|thread| (thread.id.as_str(), thread.what.as_str())));
    page.section("what it costs to miss it", &it.cost);
    page.section("what came out", &it.settles);
    page.section("a trainer needs", &it.needs.iter().map(|need| need.name()).collect::<Vec<_>>().join(", "));
    page.items(
        "must hold, beside what must hold over every trace",
        it.expectations.iter().map(|asked| {
            let says = traintrue_judge::rules::find(&asked.invariant).map_or("", |rule| rule.says);
            (asked.invariant.as_str(), says)
        }),
    );
    page.items("planted faults", it.faults.iter().map(|fault| (fault.id.as_str(), fault.what.as_str())));
    page.section("run it", &format!("traintrue run {}", it.id));
    page.0
}

fn fault(of: &Scenario, it: &PlannedFault) -> String {
    let mut page = Page::new(&it.id, "planted fault", &it.what);
    page.section("scenario", &format!("{}: {}", of.id, of.title));
    page.items("component", [(it.component.name(), it.component.meaning())].into_iter());
    page.section("must break", &it.must.join(", "));
    page.section("may break", &it.may.join(", "));
    page.section("see it", &format!("traintrue run {} --fault {}", of.id, it.id));
    page.0
}

fn invariant(catalogue: &Catalogue, it: &Rule) -> String {
    let mut page = Page::new(it.name, "invariant", it.says);
    page.section("verifies", it.verifies);
    page.section("does not verify", it.does_not_verify);
    let asked =
        catalogue.all().iter().filter(|of| of.expectations.iter().any(|asked| asked.invariant == it.name));
    page.items("asked for by", asked.map(|of| (of.id.as_str(), of.title.as_str())));
    let caught = catalogue.faults().filter(|(_, fault)| fault.must.iter().any(|must| must == it.name));
    page.items("must catch", caught.map(|(_, fault)| (fault.id.as_str(), fault.what.as_str())));
    page.0
}

fn component(catalogue: &Catalogue, it: Component) -> String {
    let mut page = Page::new(it.name(), "component", it.meaning());
    let planted = catalogue.faults().filter(|(_, fault)| fault.component == it);
    page.items("planted faults", planted.map(|(_, fault)| (fault.id.as_str(), fault.what.as_str())));
    page.0
}

fn capability(catalogue: &Catalogue, it: Capability) -> String {
    let mut page = Page::new(it.name(), "capability", it.meaning());
    let needing = catalogue.all().iter().filter(|scenario| scenario.needs.contains(&it));
    page.items("needed by", needing.map(|of| (of.id.as_str(), of.title.as_str())));
    page.0
}

/// Headings with prose beneath them; one without prose is left out.
struct Page(String);

impl Page {
    fn new(name: &str, kind: &str, title: &str) -> Self {
        Self(format!("{name} ({kind})\n{}\n", wrap(title, "")))
    }

    fn section(&mut self, head: &str, prose: &str) {
        if !prose.trim().is_empty() {
            self.0.push_str(&format!("\n{head}\n{}\n", wrap(prose, "  ")));
        }
    }

    fn items<'a>(&mut self, head: &str, items: impl Iterator<Item = (&'a str, &'a str)>) {
        let lines: Vec<String> = items.map(|(name, says)| wrap(&format!("{name}: {says}"), "  ")).collect();
        if !lines.is_empty() {
            self.0.push_str(&format!("\n{head}\n{}\n", lines.join("\n")));
        }
    }
}

/// Prose in lines of at most [`COLUMNS`], indented; an empty line parts paragraphs.
fn wrap(prose: &str, indent: &str) -> String {
    let paragraphs = prose.trim().split("\n\n").map(|paragraph| {
        let mut lines = vec![indent.to_owned()];
        for word in paragraph.split_whitespace() {
            let last = lines.len() - 1;
            let line = &mut lines[last];
            let empty = line.len() == indent.len();
            if !empty && line.chars().count() + 1 + word.chars().count() > COLUMNS {
                lines.push(format!("{indent}{word}"));
            } else {
                line.push_str(if empty { "" } else { " " });
                line.push_str(word);
            }
        }
        lines.join("\n")
    });
    paragraphs.collect::<Vec<_>>().join("\n\n")
}
