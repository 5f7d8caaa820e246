//! The memory of one run on the page: its picture, and its slopes in numbers.

use maud::{Markup, PreEscaped, html};
use traintrue_memory::bytes::BytesPerStep;
use traintrue_memory::slope::{Slope, SlopeVerdict};
use traintrue_memory::timeline::Lane;

use crate::report::plot::{Plot, Unit};

pub(super) fn figure(plot: &Plot) -> Markup {
    html! {
        div.memory {
            // The picture is our own, and escapes what it was given.
            div.picture { (PreEscaped(&plot.svg)) }
            ul.lanes { @for lane in &plot.lanes { (entry(lane)) } }
        }
    }
}

/// A lane in words: what it held, how it grows, and what that is held to.
fn entry(lane: &Lane) -> Markup {
    let (least, most) = lane.extent();
    let unit = Unit::of(&lane.series.lane);
    html! {
        li {
            code { strong { (lane.series.lane) } }
            " " (unit.shown(least))
            @if most > least { ", up to " (unit.shown(most - least)) " more" } @else { " throughout" }
            div { (slope(unit, &lane.slope)) " " @if let Some(limit) = lane.limit { (held_to(limit, &lane.slope)) } }
        }
    }
}

/// The slope and its interval, where one was found.
fn slope(unit: Unit, slope: &Slope) -> Markup {
    html! {
        @if let (Some(low), Some(high)) = (slope.low, slope.high) {
            (unit.shown(slope.slope_per_step)) " a step"
            @if low < high { " (" (unit.shown(low)) " to " (unit.shown(high)) ")" }
        }
    }
}

fn held_to(limit: BytesPerStep, slope: &Slope) -> Markup {
    let (class, word) = match slope.verdict {
        SlopeVerdict::Within => ("held", "✓ within"),
        SlopeVerdict::Exceeds => ("broken", "✗ exceeds"),
        SlopeVerdict::NotJudged => ("not-judged", "? not judged against"),
    };
    html! {
        span.chip.(class) { (word) " " (limit) }
        @if slope.verdict == SlopeVerdict::NotJudged { div.note { (slope.reason) } }
    }
}
