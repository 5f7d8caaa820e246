//! The pictures of a report: where two compared runs part, and the curves of every other run beside its memory.
//!
//! Everything is read from the traces that were kept.

mod parting;

use std::path::{Path, PathBuf};

use rayon::prelude::*;
use traintrue_judge::rule::RunEvidence;
use traintrue_judge::verdict::RunReport;
use traintrue_memory::bytes::BytesPerStep;
use traintrue_memory::timeline::Timeline;

use super::course::{Course, Quantity, Reading};
use super::plot::course::{Drawing, panels};
use super::plot::style::Role;
use super::plot::{Plot, PlotError};
pub(super) use parting::{Figure, Parting};

/// The pictures of a report, in its order.
#[derive(Debug, Default)]
pub struct Pictures {
    pub(super) partings: Vec<Parting>,
    pub(super) runs: Vec<Alone>,
}

/// One run, or one of its processes.
#[derive(Debug)]
pub(super) struct Alone {
    pub(super) scenario: String,
    pub(super) run: String,
    /// A picture per quantity; none if the run is shown beside another one.
    pub(super) panels: Vec<String>,
    /// What is not finite, in words.
    pub(super) unfinite: Vec<String>,
    pub(super) memory: Option<Plot>,
}

impl Pictures {
    /// Reads the kept traces of a report and draws them; `limit` is the limit on a memory lane's growth. Fails if a trace
    /// cannot be opened, or the drawing library fails.
    pub fn of(
        report: &RunReport,
        limit: impl Fn(&str) -> Option<BytesPerStep> + Sync,
    ) -> Result<Self, PlotError> {
        let mut pictures = Self::default();
        for outcome in &report.outcomes {
            pictures.partings.extend(Parting::of(outcome)?);
            let of_trace =
                |trace: &PathBuf| Alone::of(&outcome.scenario, trace, paired(report, trace), &limit);
            let alone = outcome.traces.par_iter().map(of_trace);
            pictures.runs.extend(alone.collect::<Result<Vec<_>, _>>()?.into_iter().flatten());
        }
        Ok(pictures)
    }

    /// The pictures of memory, which are files of their own, too.
    pub fn memory(&self) -> impl Iterator<Item = &Plot> {
        self.runs.iter().filter_map(|run| run.memory.as_ref())
    }
}

impl Alone {
    fn of(
        scenario: &str,
        trace: &Path,
        paired: Option<String>,
        limit: impl Fn(&str) -> Option<BytesPerStep>,
    ) -> Result<Option<Self>, PlotError> {
        let stem = || trace.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        let (scenario, run) = (scenario.to_owned(), paired.clone().unwrap_or_else(stem));
        let memory = Plot::draw(&scenario, &run, Timeline::read(trace, limit)?)?;
        let (mut pictures, mut words) = (Vec::new(), Vec::new());
        if paired.is_none() {
            let evidence =
                RunEvidence { name: run.clone(), segments: vec![trace.to_owned()], repeats: Vec::new() };
            let course = Course::read(&evidence, &Reading::default())?;
            pictures = panels(&[Drawing { name: &run, role: Role::Reference, course: &course }], None)?;
            words = unfinite(&run, &course);
        }
        let nothing = pictures.is_empty() && memory.is_none();
        Ok((!nothing).then_some(Self { scenario, run, panels: pictures, unfinite: words, memory }))
    }
}

/// The name of a trace whose run is compared with another: the run, and the process where there are several.
fn paired(report: &RunReport, trace: &Path) -> Option<String> {
    let pairs = report.outcomes.iter().flat_map(|outcome| &outcome.pairs);
    let runs = pairs.flat_map(|pair| [&pair.run, &pair.against]);
    let place = |segments: &[PathBuf]| segments.iter().position(|segment| segment == trace);
    let (run, segment) = runs.filter_map(|run| Some((run, place(&run.segments)?))).next()?;
    let alone = run.segments.len() == 1;
    Some(if alone { run.name.clone() } else { format!("{}.{}", run.name, segment + 1) })
}

/// What of a run is not finite: a gap in a curve is easily overlooked.
fn unfinite(name: &str, course: &Course) -> Vec<String> {
    let words = |quantity: Quantity| {
        let (curves, _) = course.of(quantity);
        let first = curves.iter().flat_map(|curve| curve.gaps()).min()?;
        let most = curves.iter().map(|curve| curve.unfinite()).max()?;
        let more = if most > 1 { format!(" and after {} more", most - 1) } else { String::new() };
        Some(format!("The {} of {name} is not finite after update {first}{more}.", quantity.name()))
    };
    Quantity::ALL.into_iter().filter_map(words).collect()
}

#[cfg(test)]
pub(super) mod tests;
