//! The recorder that a trainer is handed: typed events in, lines of a trace out.

use std::io::{self, Write};

use crate::lanes::{self, Lanes};
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
    /// Lanes that the trainer adds; where there is a reader, the trainer also chooses the moment of each sample.
    own: Option<LaneReader<'a>>,
    step: u64,
    ended: bool,
}

/// Reads a trainer's own memory lanes at a boundary.
type LaneReader<'a> = Box<dyn FnMut(Boundary) -> Lanes + 'a>;

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
        Self { to: None, sampled: Vec::new(), own: None, step: 0, ended: false }
    }

    /// Hands the sampling of memory to the trainer: from here on a sample is taken by [`Self::memory`] alone, and has the
    /// lanes that `own` returns beside those of this process. For a trainer with memory on a device, and for one whose
    /// gradients are still alive when its `update` event is written.
    ///
    /// `own` runs before the process is read, so it may wait until the device has done what was asked of it.
    pub fn sample_on_request(&mut self, own: impl FnMut(Boundary) -> Lanes + 'a) {
        self.own = Some(Box::new(own));
    }

    /// Writes an event; after an update, an epoch's edge, an evaluation or a save also the memory of this process, where the
    /// plan asks for it and the trainer does not sample by itself. Fails as the trace's writer does.
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
        match boundary {
            Some(at) if self.own.is_none() => self.memory(at),
            _ => Ok(()),
        }
    }

    /// Samples memory, where the plan asks for it at this boundary. The sample's step is that of the last event.
    pub fn memory(&mut self, at: Boundary) -> io::Result<()> {
        self.memory_at(at, self.step)
    }

    /// The same after `step` updates, for a trainer whose number of updates no event has told yet.
    pub fn memory_at(&mut self, at: Boundary, step: u64) -> io::Result<()> {
        self.step = step;
        if !self.sampled.contains(&at) {
            return Ok(());
        }
        let own = self.own.as_mut().map(|read| read(at));
        self.write(|| {
            let mut lanes = lanes::of_this_process();
            lanes.extend(own.into_iter().flatten());
            Memory { at, step, lanes }
        })
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
    use crate::trace::event::{Epoch, Update};

    fn lines(trace: &[u8]) -> Vec<serde_json::Value> {
        str::from_utf8(trace).unwrap().lines().map(|line| serde_json::from_str(line).unwrap()).collect()
    }

    #[test]
    fn memory_follows_where_the_plan_asks_for_it_and_nowhere_else() {
        let plan = Plan { sample_memory: vec![Boundary::Epoch], ..example() };
        let mut trace = Vec::new();
        let mut recorder = Recorder::new(&mut trace, &plan);
        recorder.write(|| Update { step: 3, ..Default::default() }).unwrap();
        recorder.write(|| Epoch::end(0)).unwrap();
        drop(recorder);
        let lines = lines(&trace);
        let names: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
        assert_eq!(names, ["update", "epoch", "memory"]);
        assert_eq!((lines[2]["at"].as_str(), lines[2]["step"].as_u64()), (Some("epoch"), Some(3)));
    }

    #[test]
    fn a_trainer_that_samples_on_request_adds_its_lanes_and_chooses_the_moment() {
        let plan = Plan { sample_memory: vec![Boundary::Update], ..example() };
        let mut trace = Vec::new();
        let mut recorder = Recorder::new(&mut trace, &plan);
        recorder.sample_on_request(|_| Lanes::from([("device_in_use_bytes".to_owned(), Some(7))]));
        recorder.write(|| Update { step: 3, ..Default::default() }).unwrap();
        recorder.write(|| Epoch::end(0)).unwrap();
        recorder.memory(Boundary::Update).unwrap();
        recorder.memory_at(Boundary::Update, 5).unwrap();
        recorder.memory(Boundary::Epoch).unwrap();
        drop(recorder);
        let lines = lines(&trace);
        let shown: Vec<_> = lines.iter().map(|it| (it["event"].as_str().unwrap(), &it["step"])).collect();
        assert_eq!(shown[2..], [("memory", &3.into()), ("memory", &5.into())]);
        assert_eq!(lines[2]["lanes"]["device_in_use_bytes"], 7);
        assert_eq!(lines.len(), 4);
    }

    #[test]
    fn where_nobody_records_nothing_is_made() {
        let mut recorder = Recorder::nowhere();
        recorder.write(|| -> Update { panic!("made") }).unwrap();
        recorder.memory(Boundary::Update).unwrap();
    }
}
