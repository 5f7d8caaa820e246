//! The recorder that a trainer is handed: typed events in, lines of a trace out.

use std::io::{self, Write};

use crate::lanes;
use crate::plan::{Boundary, Plan};
use crate::trace::event::{CheckpointEdge, Memory};
use crate::trace::{Event, TraceWriter};

/// Writes the trace of one run, a line at a time. Where nobody records, an event is not even made: the digests and norms
/// in it are computed within the closure that makes it.
///
/// ```
/// use traintrue_protocol::Recorder;
/// use traintrue_protocol::trace::event::Update;
///
/// let mut recorder = Recorder::nowhere();
/// recorder.write(|| Update { step: 1, lr: vec![1e-3_f64.into()], digest: Some(slow()), ..Default::default() })?;
/// # fn slow() -> String { unreachable!("nobody records") }
/// # Ok::<(), std::io::Error>(())
/// ```
pub struct Recorder<'a> {
    to: Option<TraceWriter<Box<dyn Write + 'a>>>,
    sampled: Vec<Boundary>,
    step: u64,
    ended: bool,
}

impl<'a> Recorder<'a> {
    /// A recorder of one run of `plan`.
    pub fn new(to: impl Write + 'a, plan: &Plan) -> Self {
        Self {
            to: Some(TraceWriter::new(Box::new(to))),
            sampled: plan.sample_memory.clone(),
            ..Self::nowhere()
        }
    }

    /// A recorder that records nothing.
    pub fn nowhere() -> Self {
        Self { to: None, sampled: Vec::new(), step: 0, ended: false }
    }

    /// Writes an event; after an update, an epoch's edge, an evaluation or a save also the memory of this process, where the
    /// plan asks for it. Fails as the trace's writer does.
    pub fn write<E: Into<Event>>(&mut self, event: impl FnOnce() -> E) -> io::Result<()> {
        let Some(to) = &mut self.to else { return Ok(()) };
        let event = event().into();
        to.write(&event)?;
        let boundary = match &event {
            Event::Update(it) => self.at(it.step, Boundary::Update),
            Event::Evaluation(it) => self.at(it.step, Boundary::Evaluation),
            Event::Checkpoint(it) if it.edge == CheckpointEdge::Saved => {
                self.at(it.step, Boundary::Checkpoint)
            }
            Event::Checkpoint(it) => {
                self.step = it.step;
                None
            }
            Event::Epoch(_) => Some(Boundary::Epoch),
            Event::End(_) => {
                self.ended = true;
                None
            }
            _ => None,
        };
        boundary.map_or(Ok(()), |at| self.memory(at))
    }

    /// Samples the memory of this process, where the plan asks for it at this boundary.
    pub fn memory(&mut self, at: Boundary) -> io::Result<()> {
        if !self.sampled.contains(&at) {
            return Ok(());
        }
        let step = self.step;
        self.write(|| Memory { at, step, lanes: lanes::of_this_process() })
    }

    /// Whether the trace has its last line.
    pub(crate) fn ended(&self) -> bool {
        self.ended
    }

    fn at(&mut self, step: u64, boundary: Boundary) -> Option<Boundary> {
        self.step = step;
        Some(boundary)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::plan::example;
    use crate::trace::event::{Edge, Epoch, Update};

    #[test]
    fn memory_follows_where_the_plan_asks_for_it_and_nowhere_else() {
        let plan = Plan { sample_memory: vec![Boundary::Epoch], ..example() };
        let mut trace = Vec::new();
        let mut recorder = Recorder::new(&mut trace, &plan);
        recorder.write(|| Update { step: 3, ..Default::default() }).unwrap();
        recorder.write(|| Epoch { epoch: 0, edge: Edge::End }).unwrap();
        drop(recorder);
        let lines: Vec<serde_json::Value> = String::from_utf8(trace)
            .unwrap()
            .lines()
            .map(|line| serde_json::from_str(line).unwrap())
            .collect();
        let names: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
        assert_eq!(names, ["update", "epoch", "memory"]);
        assert_eq!((lines[2]["at"].as_str(), lines[2]["step"].as_u64()), (Some("epoch"), Some(3)));
    }

    #[test]
    fn where_nobody_records_nothing_is_made() {
        let mut recorder = Recorder::nowhere();
        recorder.write(|| -> Update { panic!("made") }).unwrap();
        recorder.memory(Boundary::Update).unwrap();
    }
}
