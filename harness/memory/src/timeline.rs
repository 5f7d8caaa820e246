//! The memory of a run for charts: every lane at every update, and the places in training that explain its steps.

use std::collections::BTreeMap;
use std::path::Path;

use traintrue_protocol::plan::Boundary;
use traintrue_protocol::trace::event::{CheckpointEdge, Edge};
use traintrue_protocol::trace::{Event, TraceError, TraceReader};
use traintrue_protocol::vocabulary;

use super::bytes::BytesPerStep;
use super::series::{Point, Series};
use super::slope::{Slope, judge};

/// How much a lane of a whole process may grow beyond the counted lane. 4 KiB per update are two pages of 2 MiB over
/// 1,000 updates, the resolution of a resident size.
pub const PROCESS_LIMIT: BytesPerStep = BytesPerStep(4096.0);

/// The lanes of whole processes, each with the counted lane whose growth explains its own.
pub const OF_THE_PROCESS: [(vocabulary::Lane, vocabulary::Lane); 2] = [
    (vocabulary::Lane::RssBytes, vocabulary::Lane::HeapBytes),
    (vocabulary::Lane::DeviceProcessBytes, vocabulary::Lane::DeviceReservedBytes),
];

/// The default limit on a lane's growth. Only lanes of whole processes have one: exact lanes are compared exactly.
pub fn usual_limit(lane: &str) -> Option<BytesPerStep> {
    OF_THE_PROCESS.iter().any(|(name, _)| name.name() == lane).then_some(PROCESS_LIMIT)
}

/// The memory of one run.
#[derive(Clone, Debug, PartialEq)]
pub struct Timeline {
    /// Its lanes, by name. A lane with fewer than two samples is left out.
    pub lanes: Vec<Lane>,
    /// Ends of epochs, evaluations and checkpoints, in order, at the updates done by then.
    pub marks: Vec<Mark>,
}

/// One lane and its slope.
#[derive(Clone, Debug, PartialEq)]
pub struct Lane {
    /// What it held after each update.
    pub series: Series,
    /// Its growth.
    pub slope: Slope,
    /// The limit on its growth. Without one the slope is an estimate and not a verdict.
    pub limit: Option<BytesPerStep>,
}

/// A place in training.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Mark {
    /// Which kind.
    pub at: Boundary,
    /// Updates done.
    pub step: f64,
}

impl Timeline {
    /// Reads a trace. `limit` gives the limit on a lane's growth. A trace that breaks off, or has an invalid line, is
    /// read up to there: a run that ran out of memory is the most interesting one. Fails if the trace cannot be opened.
    pub fn read(trace: &Path, limit: impl Fn(&str) -> Option<BytesPerStep>) -> Result<Self, TraceError> {
        let mut lanes: BTreeMap<String, Vec<Point>> = BTreeMap::new();
        let (mut marks, mut step) = (Vec::new(), 0.0);
        // Stops at the first line that cannot be read: the course up to there is still worth a chart.
        for line in TraceReader::open(trace)?.map_while(Result::ok) {
            let at = match line.event {
                Event::Update(it) => {
                    step = it.step as f64;
                    continue;
                }
                Event::Memory(it) if it.at == Boundary::Update => {
                    for (lane, bytes) in it.lanes {
                        let point = bytes.map(|bytes| Point { step: it.step as f64, bytes: bytes as f64 });
                        lanes.entry(lane).or_default().extend(point);
                    }
                    continue;
                }
                Event::Epoch(it) if it.edge == Edge::End => Boundary::Epoch,
                Event::Evaluation(_) => Boundary::Evaluation,
                Event::Checkpoint(it) if it.edge == CheckpointEdge::Saved => Boundary::Checkpoint,
                _ => continue,
            };
            marks.push(Mark { at, step });
        }
        let file = trace.display().to_string();
        let lanes = lanes.into_iter().filter(|(_, points)| points.len() > 1).map(|(lane, points)| {
            let limit = limit(&lane);
            let slope = judge(&points, limit.unwrap_or(PROCESS_LIMIT));
            Lane { series: Series { file: file.clone(), lane, points }, slope, limit }
        });
        Ok(Self { lanes: lanes.collect(), marks })
    }

    /// The updates of the first epoch, if others follow. One-time allocations have been made by then.
    pub fn warm_up(&self) -> Option<f64> {
        let mut ends = self.marks.iter().filter(|mark| mark.at == Boundary::Epoch);
        let first = ends.next()?;
        ends.next().map(|_| first.step)
    }
}

impl Lane {
    /// The minimum and the maximum that it held.
    pub fn extent(&self) -> (f64, f64) {
        let bytes = self.series.points.iter().map(|point| point.bytes);
        bytes.fold((f64::INFINITY, f64::NEG_INFINITY), |(least, most), it| (least.min(it), most.max(it)))
    }

    /// The start of the fitted line, if a slope was found. The line has the slope of the verdict, and as many points
    /// above it as below.
    pub fn fit(&self) -> Option<Point> {
        self.slope.low?;
        let points = &self.series.points;
        let step = self.slope.from_step.unwrap_or(points[points.len() / 2].step);
        let slope = self.slope.slope_per_step;
        let fitted = points.iter().filter(|point| point.step >= step);
        let mut heights: Vec<f64> = fitted.map(|it| it.bytes - slope * (it.step - step)).collect();
        heights.sort_by(f64::total_cmp);
        heights.get(heights.len() / 2).map(|&bytes| Point { step, bytes })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::sampled;

    fn read(held: impl Fn(u64) -> Vec<(&'static str, Option<u64>)>) -> Timeline {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        sampled(&path, held);
        Timeline::read(&path, usual_limit).unwrap()
    }

    #[test]
    fn the_lanes_and_the_places_of_a_run_are_read() {
        let timeline = read(|step| {
            vec![("rss_bytes", Some(5000 + step)), ("null", None), ("once", (step == 7).then_some(1))]
        });
        assert_eq!(timeline.lanes.len(), 1);
        let lane = &timeline.lanes[0];
        assert_eq!((lane.series.lane.as_str(), lane.limit), ("rss_bytes", Some(PROCESS_LIMIT)));
        assert_eq!((lane.series.points.len(), lane.extent()), (120, (5001.0, 5120.0)));
        let of = |at| timeline.marks.iter().filter(|it| it.at == at).map(|it| it.step).collect::<Vec<_>>();
        assert_eq!(of(Boundary::Epoch), [40.0, 80.0, 120.0]);
        assert_eq!(of(Boundary::Evaluation), [20.0, 40.0, 60.0, 80.0, 100.0, 120.0]);
        assert_eq!(of(Boundary::Checkpoint), [40.0, 80.0, 120.0]);
        assert_eq!(timeline.warm_up(), Some(40.0));
    }

    #[test]
    fn the_fitted_line_goes_through_the_middle_of_what_it_fits() {
        let timeline = read(|step| vec![("rss_bytes", Some((1 << 20) + 9000 * step + step % 2))]);
        let fit = timeline.lanes[0].fit().unwrap();
        let expected = f64::from(1 << 20) + 9000.0 * fit.step;
        assert!((fit.bytes - expected).abs() < 9000.0, "{fit:?}, {expected}");
    }

    #[test]
    fn a_trace_that_breaks_off_is_read_up_to_there() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("run.jsonl");
        sampled(&path, |step| vec![("rss_bytes", Some(step))]);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, &text[..text.len() / 2]).unwrap();
        let half = Timeline::read(&path, usual_limit).unwrap();
        assert!((40..80).contains(&half.lanes[0].series.points.len()));
        assert!(Timeline::read(&folder.path().join("none.jsonl"), usual_limit).is_err());
    }
}
