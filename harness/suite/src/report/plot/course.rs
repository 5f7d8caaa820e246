//! One quantity over the updates of one run, or of two runs that were compared.
//!
//! The run that the other is held against is a wide pale line. The other is a dark dashed line on top of it, so that both
//! are seen where they are equal.

use plotters::prelude::*;
use plotters::style::text_anchor::{HPos, Pos, VPos};

use super::scale::{Scale, ticks};
use super::style::{self, INK, Role, legible, text};
use super::{Drawn, PlotError};
use crate::report::course::{Course, Quantity};
use crate::report::curve::Curve;
use crate::report::text::many;

const WIDTH: u32 = 720;
const HEIGHT: u32 = 400;
const NUMBERS_WIDTH: u32 = 128;
const STEPS_HEIGHT: u32 = 56;
const TITLE_HEIGHT: u32 = 72;
const RIGHT: u32 = 40;
/// Half the size of the mark for a value that is not finite.
const CROSS: i32 = 8;
/// The share of a panel's height for these marks.
const MARKS: f64 = 0.22;

/// A run in a panel.
pub(in crate::report) struct Drawing<'a> {
    pub(in crate::report) name: &'a str,
    pub(in crate::report) role: Role,
    pub(in crate::report) course: &'a Course,
}

/// A picture for every quantity that a run has.
pub(in crate::report) fn panels(runs: &[Drawing], parted: Option<u64>) -> Result<Vec<String>, PlotError> {
    let spans = runs.iter().filter_map(|run| run.course.span());
    let all = spans.chain(parted.map(|it| (it, it))).reduce(|(a, b), (c, d)| (a.min(c), b.max(d)));
    let Some((first, last)) = all else { return Ok(Vec::new()) };
    let mut panels = Vec::new();
    for quantity in Quantity::ALL {
        let panel = Panel { quantity, runs, parted, first, last };
        if panel.curves().next().is_none() {
            continue;
        }
        let mut svg = String::new();
        panel
            .draw(&mut svg)
            .map_err(|why| PlotError::Curve { quantity: quantity.name(), why: why.to_string() })?;
        panels.push(style::named(&svg, &panel.name(), &panel.words()));
    }
    Ok(panels)
}

struct Panel<'a> {
    quantity: Quantity,
    runs: &'a [Drawing<'a>],
    parted: Option<u64>,
    first: u64,
    last: u64,
}

impl Panel<'_> {
    fn curves(&self) -> impl Iterator<Item = (&Drawing<'_>, &Curve)> {
        self.runs.iter().flat_map(|run| run.course.of(self.quantity).0.into_iter().map(move |it| (run, it)))
    }

    fn draw(&self, svg: &mut String) -> Drawn {
        let area = SVGBackend::with_string(svg, (WIDTH, HEIGHT)).into_drawing_area();
        let scale = self.scale();
        // Marks for values that are not finite stand below the curves.
        let gaps = self.curves().any(|(_, curve)| curve.unfinite() > 0);
        let floor = scale.bottom - if gaps { MARKS * (scale.top - scale.bottom) } else { 0.0 };
        area.draw(&Text::new(self.title(&scale), (20, 10), text(INK)))?;
        // One update alone stands in the middle.
        let (from, to) = match (self.first as f64, self.last as f64) {
            (first, last) if first == last => (first - 1.0, last + 1.0),
            span => span,
        };
        let mut chart = ChartBuilder::on(&area)
            .margin_top(TITLE_HEIGHT)
            .margin_right(RIGHT)
            .y_label_area_size(NUMBERS_WIDTH)
            .x_label_area_size(STEPS_HEIGHT)
            .build_cartesian_2d(from..to, floor..scale.top)?;
        for (height, number) in scale.ticks() {
            let grid = PathElement::new(vec![(from, height), (to, height)], Role::Grid.colour());
            chart.draw_series([grid])?;
            let right = text(INK).pos(Pos::new(HPos::Right, VPos::Center));
            chart.draw_series([EmptyElement::at((from, height)) + Text::new(number, (-14, 0), right)])?;
        }
        for update in ticks(self.first as f64, self.last as f64, 1.0).0 {
            let below = text(INK).pos(Pos::new(HPos::Center, VPos::Top));
            let number = Text::new(format!("{update:.0}"), (0, 14), below);
            chart.draw_series([EmptyElement::at((update, floor)) + number])?;
        }
        let shown = |seam: &&u64| (self.first..=self.last).contains(*seam);
        for &seam in self.runs.iter().flat_map(|run| &run.course.seams).filter(shown) {
            let line = vec![(seam as f64, floor), (seam as f64, scale.top)];
            chart.draw_series([PathElement::new(line, Role::Seam.colour().stroke_width(3))])?;
        }
        // Below the curves: the values at the first difference are what is looked for.
        if let Some(update) = self.parted {
            let line = vec![(update as f64, floor), (update as f64, scale.top)];
            chart.draw_series([PathElement::new(line, Role::Parted.colour().stroke_width(2))])?;
        }
        for (run, curve) in self.curves() {
            let width = match (run.role, curve.is_dense()) {
                (Role::Reference, false) => 9,
                (Role::Reference, true) => 5,
                (_, false) => 4,
                (_, true) => 2,
            };
            let style = run.role.colour().stroke_width(width);
            for line in curve.lines() {
                let line: Vec<_> = line.iter().map(|&(at, value)| (at as f64, scale.height(value))).collect();
                match line.as_slice() {
                    [alone] => chart.draw_series([Circle::new(*alone, width, run.role.colour().filled())])?,
                    _ => chart.draw_series([PathElement::new(line, style)])?,
                };
            }
            for update in curve.gaps() {
                // Each run has a row of its own.
                let row = if run.role == Role::Reference { -14 } else { -38 };
                let at = (update as f64, floor);
                let stroke = |from: i32, to: i32| {
                    let ends = vec![(-CROSS, row + from), (CROSS, row + to)];
                    PathElement::new(ends, Role::Unfinite.colour().stroke_width(4))
                };
                chart.draw_series([EmptyElement::at(at) + stroke(-CROSS, CROSS) + stroke(CROSS, -CROSS)])?;
            }
        }
        if let Some(update) = self.parted {
            let head = Polygon::new(vec![(-12, -18), (12, -18), (0, 0)], Role::Parted.colour().filled());
            chart.draw_series([EmptyElement::at((update as f64, scale.top)) + head])?;
        }
        area.present()?;
        Ok(())
    }

    fn scale(&self) -> Scale {
        let extremes = self.curves().filter_map(|(_, curve)| curve.extremes());
        let (least, most) =
            extremes.fold((f64::INFINITY, f64::NEG_INFINITY), |(a, b), (c, d)| (a.min(c.1), b.max(d.1)));
        let (least, most) = if least > most { (0.0, 0.0) } else { (least, most) };
        Scale::over(least, most, self.quantity != Quantity::Rate)
    }

    /// What a panel shows, for the eye.
    fn title(&self, scale: &Scale) -> String {
        let many =
            self.runs.iter().map(|run| run.course.of(self.quantity)).find(|(shown, all)| shown.len() < *all);
        let some = many.map(|(shown, all)| format!(", {} of {all} courses", shown.len()));
        let powers = if scale.logarithmic { ", logarithmic" } else { "" };
        format!("{} over updates{powers}{}", self.quantity.name(), some.unwrap_or_default())
    }

    fn name(&self) -> String {
        let runs: Vec<String> = self.runs.iter().map(|run| legible(run.name)).collect();
        format!("{} over updates: {}", self.quantity.name(), runs.join(" and "))
    }

    /// What a panel shows, for a reader who does not see it.
    fn words(&self) -> String {
        let runs = self.curves().map(|(run, curve)| {
            let name = legible(run.name);
            let finite = match curve.extremes() {
                Some((least, most)) => format!(
                    "from {} after update {} to {} after update {}",
                    shown(least.1),
                    least.0,
                    shown(most.1),
                    most.0
                ),
                None => "no finite value".to_owned(),
            };
            match curve.unfinite() {
                0 => format!("{name}: {finite}."),
                count => format!("{name}: {finite}; not finite after {}.", many(count, "update")),
            }
        });
        let parted = self.parted.map(|update| format!("The first difference is at update {update}."));
        runs.chain(parted).collect::<Vec<_>>().join(" ")
    }
}

/// A value, as a person reads it.
fn shown(value: f64) -> String {
    traintrue_protocol::number::Number(value).to_string()
}
