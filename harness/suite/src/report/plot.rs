//! A run's memory as a picture: one panel a lane, all over the same updates.
//!
//! A panel shows a lane above the least that it held, for growth is what is looked for; the least itself stands in its
//! title. The picture is SVG at twice its size, so that whole pixels are half ones where it is shown.

mod axis;
pub(super) mod course;
mod panel;
mod scale;
pub(super) mod style;

pub(super) use axis::Unit;
use plotters::prelude::*;
use traintrue_memory::series::write_csv;
use traintrue_memory::timeline::{Lane, Timeline};
use traintrue_protocol::trace::TraceError;

use style::{INK, Role, TEXT_PX, text};

/// The memory of one run, drawn.
#[derive(Clone, Debug, PartialEq)]
pub struct Plot {
    /// The scenario.
    pub scenario: String,
    /// The run: the name of its trace.
    pub run: String,
    /// The picture, a document of its own.
    pub svg: String,
    /// What the panels show.
    pub lanes: Vec<Lane>,
}

/// A picture that could not be drawn.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PlotError {
    #[error(transparent)]
    Trace(#[from] TraceError),
    #[error("{scenario} {run}: cannot draw the memory: {why}")]
    Draw { scenario: String, run: String, why: String },
    #[error("cannot draw the {quantity}: {why}")]
    Curve { quantity: &'static str, why: String },
}

const WIDTH: u32 = 720;
const PANEL_HEIGHT: u32 = 272;
/// The numbers under the last panel, and what they count.
const STEPS_HEIGHT: u32 = 92;
const LEGEND_ROW_HEIGHT: u32 = 44;
const LEGEND_COLUMNS: usize = 2;

type Area<'a> = DrawingArea<SVGBackend<'a>, plotters::coord::Shift>;
type Drawn = Result<(), Box<dyn std::error::Error + Send + Sync>>;

impl Plot {
    /// Draws a run's memory; nothing where nothing was sampled twice. Fails where the drawing library does.
    pub fn draw(scenario: &str, run: &str, timeline: Timeline) -> Result<Option<Self>, PlotError> {
        if timeline.lanes.is_empty() {
            return Ok(None);
        }
        let (scenario, run) = (scenario.to_owned(), run.to_owned());
        let mut svg = String::new();
        if let Err(why) = picture(&mut svg, &timeline) {
            return Err(PlotError::Draw { scenario, run, why: why.to_string() });
        }
        let svg = style::dressed(&svg, &format!("{scenario} {run}"));
        Ok(Some(Self { scenario, run, svg, lanes: timeline.lanes }))
    }

    /// What its files are called.
    pub fn name(&self) -> String {
        format!("{}-{}", self.scenario, self.run)
    }

    /// What it shows, as the gate reads it.
    pub fn csv(&self) -> csv::Result<Vec<u8>> {
        write_csv(self.lanes.iter().map(|lane| &lane.series))
    }
}

fn picture(svg: &mut String, timeline: &Timeline) -> Drawn {
    let legend = legend(timeline);
    let rows = legend.len().div_ceil(LEGEND_COLUMNS) as u32;
    let panels_height = PANEL_HEIGHT * timeline.lanes.len() as u32;
    let height = panels_height + STEPS_HEIGHT + LEGEND_ROW_HEIGHT * rows;
    let root = SVGBackend::with_string(svg, (WIDTH, height)).into_drawing_area();
    let (panels, below) = root.split_vertically(panels_height);
    for (lane, area) in timeline.lanes.iter().zip(panels.split_evenly((timeline.lanes.len(), 1))) {
        panel::draw(&area, timeline, lane)?;
    }
    let (steps, below) = below.split_vertically(STEPS_HEIGHT);
    panel::steps(&steps, timeline)?;
    for (area, (role, label)) in below.split_evenly((rows as usize, LEGEND_COLUMNS)).iter().zip(legend) {
        let middle = LEGEND_ROW_HEIGHT as i32 / 2;
        let swatch = [(20, middle - 7), (52, middle + 7)];
        area.draw(&Rectangle::new(swatch, role.colour().filled()))?;
        let at = (64, middle - TEXT_PX / 2);
        area.draw(&Text::new(label, at, text(INK)))?;
    }
    root.present()?;
    Ok(())
}

/// What the colours mean, of those that are there.
fn legend(timeline: &Timeline) -> Vec<(Role, &'static str)> {
    let marked = |role: Role| timeline.marks.iter().any(|mark| Role::of(mark.at) == Some(role));
    let fitted = |lane: &Lane| lane.fit().is_some();
    let slopes = timeline.lanes.iter().any(fitted);
    let limits = timeline.lanes.iter().any(|lane| fitted(lane) && lane.limit.is_some());
    let all = [
        (Role::Lane, "after each update", true),
        (Role::Slope, "fitted slope", slopes),
        (Role::Limit, "limit on it", limits),
        (Role::Epoch, "end of an epoch", marked(Role::Epoch)),
        (Role::Evaluation, "evaluation", marked(Role::Evaluation)),
        (Role::Checkpoint, "checkpoint", marked(Role::Checkpoint)),
        (Role::WarmUp, "warm-up", timeline.warm_up().is_some()),
    ];
    all.into_iter().filter(|(.., there)| *there).map(|(role, label, _)| (role, label)).collect()
}

#[cfg(test)]
pub(super) mod tests;
