//! The pictures on the page: where two runs part, and the curves of a run beside its memory.

use maud::{Markup, PreEscaped, html};

use super::memory;
use crate::report::pictures::{Alone, Figure, Parting, Pictures};
use crate::report::plot::style::{Role, sample};
use crate::report::text::many;

pub(super) fn section(pictures: &Pictures) -> Markup {
    let partings = &pictures.partings;
    let curves = pictures.runs.iter().any(|run| !run.panels.is_empty());
    html! {
        @if !partings.is_empty() {
            h2 { "Where two runs part" }
            @for (at, it) in partings.iter().enumerate() {
                @let new = at.checked_sub(1).is_none_or(|before| partings[before].scenario != it.scenario);
                @if new { h3 { (it.scenario) } }
                (parting(it, opens(partings, at)))
            }
        }
        @if !pictures.runs.is_empty() {
            h2 { @if curves { "Curves and memory" } @else { "Memory" } }
            @for run in &pictures.runs { (alone(run)) }
        }
    }
}

/// The first pair of each scenario that parts is open, or the first pair where none does.
fn opens(partings: &[Parting], at: usize) -> bool {
    let same = || partings.iter().enumerate().filter(|(_, it)| it.scenario == partings[at].scenario);
    let first = same().find(|(_, it)| it.first.is_some()).or_else(|| same().next());
    first.is_some_and(|(first, _)| first == at)
}

fn parting(it: &Parting, open: bool) -> Markup {
    html! {
        details.parting open[open] {
            summary { strong { (it.run) } " against " strong { (it.against) } ": " (verdict(it)) }
            @if let Some(first) = &it.first {
                dl { dt { "invariant" } dd { code { (first.invariant) } } dt { "expected" } dd { (first.expected) } dt { "actual" } dd { (first.actual) } }
                @if let (Some(update), [_, ..]) = (first.update, first.figures.as_slice()) {
                    (figures(it, update, &first.figures))
                }
            }
            @for words in &it.unfinite { p { (words) } }
            @if !it.panels.is_empty() {
                p.legend {
                    span { (sample(Role::Reference)) (it.against) }
                    span { (sample(Role::Judged)) (it.run) }
                    @if !it.seams.is_empty() { span { (sample(Role::Seam)) "resumed" } }
                    @if it.first.as_ref().is_some_and(|first| first.update.is_some()) {
                        span { (sample(Role::Parted)) "first difference" }
                    }
                    @if !it.unfinite.is_empty() { span { (sample(Role::Unfinite)) "not finite" } }
                }
            }
            @if let Some((updates, near)) = &it.near {
                p.note { "Updates " (updates.start()) " to " (updates.end()) }
                (panels(near))
                p.note { "All updates" }
            }
            (panels(&it.panels))
            ul { @for (invariant, count) in &it.compared {
                li { code { (invariant) } " " (many(*count, "comparison")) }
            } }
        }
    }
}

fn verdict(it: &Parting) -> Markup {
    let compared: u64 = it.compared.iter().map(|(_, count)| count).sum();
    html! {
        @match &it.first {
            Some(first) => span.chip.broken { "✗ first difference " (first.place) },
            None if compared == 0 => span.chip.not-judged { "? not compared" },
            None => span.chip.held { "✓ no difference" },
        }
    }
}

fn figures(it: &Parting, update: u64, figures: &[Figure]) -> Markup {
    html! {
        table.figures {
            caption { "Update " (update) }
            thead { tr { th { "" } th scope="col" { (it.against) } th scope="col" { (it.run) } } }
            tbody { @for figure in figures {
                tr {
                    th scope="row" { (figure.quantity) }
                    td { (figure.against) }
                    td { @if figure.against == figure.run { (figure.run) } @else { strong { (figure.run) } } }
                }
            } }
        }
    }
}

fn alone(it: &Alone) -> Markup {
    html! {
        figure {
            figcaption { strong { (it.scenario) } " " (it.run) }
            @for words in &it.unfinite { p { (words) } }
            @match (&it.memory, it.panels.is_empty()) {
                (Some(plot), true) => (memory::figure(plot)),
                (Some(plot), false) => div.beside {
                    div { (legend(it)) (panels(&it.panels)) }
                    (memory::figure(plot))
                },
                (None, _) => { (legend(it)) (panels(&it.panels)) },
            }
        }
    }
}

/// One run needs a legend only for the marks.
fn legend(it: &Alone) -> Markup {
    html! {
        @if !it.unfinite.is_empty() { p.legend { span { (sample(Role::Unfinite)) "not finite" } } }
    }
}

/// The pictures are our own, and escape what they were given.
fn panels(panels: &[String]) -> Markup {
    html! {
        @if !panels.is_empty() {
            div.panels { @for panel in panels { div.picture { (PreEscaped(panel)) } } }
        }
    }
}
