//! Reads a recording from a trace: its `memory` events, after updates and at every other boundary, and its epochs.

use std::collections::BTreeMap;
use std::path::Path;

use traintrue_protocol::plan::Boundary;
use traintrue_protocol::trace::event::Edge;
use traintrue_protocol::trace::{Event, TraceReader};

use super::{Point, Ran, Recording, Series, SeriesError};
use crate::exact::phased;

/// Reads a trace. A lane that is null or absent at a boundary has no point there. With `only`, reads these lanes. Fails
/// if a line is not an event, or if no memory was sampled after an update.
pub fn read_trace(path: &Path, only: &[String]) -> Result<Recording, SeriesError> {
    let mut lanes: BTreeMap<String, Vec<Point>> = BTreeMap::new();
    let mut held: BTreeMap<String, Vec<(u64, u64, u64)>> = BTreeMap::new();
    let mut found = Recording::default();
    let (mut before, mut step, mut epoch): (Option<f64>, f64, Option<u64>) = (None, 0.0, None);
    for line in TraceReader::open(path)? {
        let line = line?;
        match line.event {
            Event::Run(run) => {
                found.run = Some(Ran { scenario: run.scenario, run: run.run, device: run.device })
            }
            Event::Update(update) => step = update.step as f64,
            Event::Epoch(it) if it.edge == Edge::Begin => epoch = Some(it.epoch),
            Event::Epoch(_) => found.edges.push(step),
            Event::Memory(memory) => {
                for (lane, bytes) in &memory.lanes {
                    let sample = epoch.zip(*bytes).map(|(epoch, bytes)| (epoch, memory.step, bytes));
                    held.entry(lane.clone()).or_default().extend(sample);
                }
                if memory.at != Boundary::Update {
                    continue;
                }
                let step = memory.step as f64;
                if let Some(before) = before.filter(|before| *before >= step) {
                    return Err(SeriesError::Unsorted {
                        path: path.to_owned(),
                        line: line.number,
                        before,
                        found: step,
                    });
                }
                before = Some(step);
                for (lane, bytes) in memory.lanes {
                    let point = bytes.map(|bytes| Point { step, bytes: bytes as f64 });
                    lanes.entry(lane).or_default().extend(point);
                }
            }
            _ => {}
        }
    }
    let file = path.display().to_string();
    let lanes = lanes.into_iter().filter(|(_, points)| !points.is_empty());
    found.series = lanes.map(|(lane, points)| Series { file: file.clone(), lane, points }).collect();
    if found.series.is_empty() {
        return Err(SeriesError::NoSamples { path: path.to_owned() });
    }
    found.samples = held.into_iter().map(|(lane, held)| (lane, phased(held))).collect();
    found.keep(path, only)
}
