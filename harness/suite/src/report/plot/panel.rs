//! One lane of a picture: its course, its fitted slope and its limit, over the places that explain its steps.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};
use traintrue_memory::series::Point;
use traintrue_memory::timeline::{Lane, Timeline};

use super::axis::{Axis, Unit};
use super::scale::ticks;
use super::style::{INK, Role, TEXT_PX, legible, text};
use super::{Area, Drawn, WIDTH};

const NUMBERS_WIDTH: u32 = 184;
const RIGHT: u32 = 44;
const TITLE_HEIGHT: u32 = 62;
/// The share of a panel that is left free under the least.
const FLOOR: f64 = 0.1;

pub(super) fn draw(area: &Area, timeline: &Timeline, lane: &Lane) -> Drawn {
    let (least, most) = lane.extent();
    let unit = Unit::of(&lane.series.lane);
    let axis = Axis::over(most - least, unit);
    let title = format!("{}, above {}", legible(&lane.series.lane), unit.shown(least));
    area.draw(&Text::new(title, (20, 12), text(INK)))?;

    let (first, last) = steps_of(timeline);
    let (bottom, top) = (-FLOOR * axis.top, axis.top);
    let mut chart = ChartBuilder::on(area)
        .margin_top(TITLE_HEIGHT)
        .margin_right(RIGHT)
        .margin_bottom(8)
        .y_label_area_size(NUMBERS_WIDTH)
        .build_cartesian_2d(first..last, bottom..top)?;
    if let Some(end) = timeline.warm_up() {
        let warm_up = Rectangle::new([(first, bottom), (end, top)], Role::WarmUp.colour().filled());
        chart.draw_series([warm_up])?;
    }
    for tick in axis.ticks() {
        let grid = PathElement::new(vec![(first, tick), (last, tick)], Role::Grid.colour());
        chart.draw_series([grid])?;
        let number =
            Text::new(axis.label(tick), (-14, 0), text(INK).pos(Pos::new(HPos::Right, VPos::Center)));
        chart.draw_series([EmptyElement::at((first, tick)) + number])?;
    }
    let tick = 0.09 * (top - bottom);
    for mark in &timeline.marks {
        let Some(role) = Role::of(mark.at) else { continue };
        let (from, to) = match role {
            Role::Evaluation => (bottom, bottom + tick),
            Role::Checkpoint => (top - tick, top),
            _ => (bottom, top),
        };
        let line = vec![(mark.step, from), (mark.step, to)];
        chart.draw_series([PathElement::new(line, role.colour().stroke_width(2))])?;
    }
    let course = thinned(&lane.series.points, first, last).map(|it| (it.step, it.bytes - least));
    chart.draw_series([PathElement::new(course.collect::<Vec<_>>(), Role::Lane.colour().stroke_width(3))])?;
    let Some(fit) = lane.fit() else { return Ok(()) };
    let from = (fit.step, fit.bytes - least);
    let mut lines = vec![(Role::Slope, lane.slope.slope_per_step)];
    lines.extend(lane.limit.map(|limit| (Role::Limit, limit.0)));
    for (role, slope) in lines {
        let line = within(from, slope, last, bottom, top);
        chart.draw_series([PathElement::new(line.to_vec(), role.colour().stroke_width(4))])?;
    }
    Ok(())
}

/// The numbers of the updates, under the last panel.
pub(super) fn steps(area: &Area, timeline: &Timeline) -> Drawn {
    let (first, last) = steps_of(timeline);
    let mut chart = ChartBuilder::on(area)
        .margin_left(NUMBERS_WIDTH)
        .margin_right(RIGHT)
        .margin_bottom(TEXT_PX + 8)
        .x_label_area_size(TEXT_PX + 14)
        .build_cartesian_2d(first..last, 0.0..1.0)?;
    for step in ticks(first, last, 1.0).0 {
        let below = text(INK).pos(Pos::new(HPos::Center, VPos::Top));
        let number = Text::new(format!("{step:.0}"), (0, 2), below);
        chart.draw_series([EmptyElement::at((step, 0.0)) + number])?;
    }
    let middle = (NUMBERS_WIDTH + WIDTH - RIGHT) as i32 / 2;
    let (_, height) = area.dim_in_pixel();
    let centred = text(INK).pos(Pos::new(HPos::Center, VPos::Bottom));
    area.draw(&Text::new("updates done", (middle, height as i32 - 6), centred))?;
    Ok(())
}

/// The first step of any lane, and the last.
fn steps_of(timeline: &Timeline) -> (f64, f64) {
    let steps = timeline.lanes.iter().flat_map(|lane| &lane.series.points).map(|point| point.step);
    steps.fold((f64::INFINITY, f64::NEG_INFINITY), |(first, last), it| (first.min(it), last.max(it)))
}

/// The least and the most of every half pixel, in order: what a longer course would look like.
fn thinned(points: &[Point], first: f64, last: f64) -> impl Iterator<Item = Point> {
    let column = move |point: &Point| ((point.step - first) / (last - first) * f64::from(WIDTH)) as u64;
    points.chunk_by(move |a, b| column(a) == column(b)).flat_map(|chunk| {
        let at = |of: fn(&f64, &f64) -> std::cmp::Ordering| {
            (0..chunk.len()).max_by(|a, b| of(&chunk[*a].bytes, &chunk[*b].bytes)).unwrap_or(0)
        };
        let (most, least) = (at(f64::total_cmp), at(|a, b| b.total_cmp(a)));
        let ends = if most == least { vec![most] } else { vec![most.min(least), most.max(least)] };
        ends.into_iter().map(|at| chunk[at])
    })
}

/// A line that leaves the panel ends at its edge.
fn within(from: (f64, f64), slope: f64, last: f64, bottom: f64, top: f64) -> [(f64, f64); 2] {
    let (step, height) = (from.0, from.1.clamp(bottom, top));
    let edge = if slope > 0.0 { top } else { bottom };
    let reach = if slope == 0.0 { f64::INFINITY } else { (edge - height) / slope };
    let end = last.min(step + reach);
    [(step, height), (end, height + slope * (end - step))]
}
