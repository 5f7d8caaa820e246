//! One recorded process: its states, its micro-batches and updates in order, and the checkpoints that it saved.

use std::path::Path;

use traintrue_protocol::trace::event::{Checkpoint, CheckpointEdge, State};
use traintrue_protocol::trace::{Event, Line, TraceError, TraceReader};
use traintrue_protocol::vocabulary::Moment;

/// One recorded process. Its states are those of small models: a script is cut where it can be run many times.
pub(super) struct History {
    /// Micro-batches and updates.
    pub steps: Vec<Line>,
    /// Each with the number of `steps` before it.
    pub states: Vec<(usize, Line)>,
    checkpoints: Vec<Checkpoint>,
    /// Whether the process came to its own end.
    pub ended: bool,
    /// Micro-batches after which the recorder ended the process, or told it to end.
    cut_after: Option<u64>,
}

impl History {
    /// Reads a trace. A process that was killed may leave half a line at its end.
    pub fn read(path: &Path) -> Result<Self, TraceError> {
        let mut history = Self {
            steps: Vec::new(),
            states: Vec::new(),
            checkpoints: Vec::new(),
            ended: false,
            cut_after: None,
        };
        for line in TraceReader::open(path)? {
            let line = match line {
                Err(TraceError::CutShort { .. }) => break,
                line => line?,
            };
            match &line.event {
                Event::MicroBatch(_) | Event::Update(_) => history.steps.push(line),
                Event::State(_) => history.states.push((history.steps.len(), line)),
                Event::Run(it) => history.cut_after = it.recorded.as_ref().and_then(|it| it.cut_after),
                Event::Checkpoint(it) if it.edge == CheckpointEdge::Deleted => history.forget(&it.path),
                Event::Checkpoint(it) => history.checkpoints.push(it.clone()),
                Event::End(_) => history.ended = true,
                _ => {}
            }
        }
        Ok(history)
    }

    /// The state before the first update.
    pub fn start(&self) -> Option<&Line> {
        let (_, line) = self.states.first()?;
        state(line).filter(|it| it.at == Moment::Start).map(|_| line)
    }

    /// Updates done.
    pub fn updates(&self) -> u64 {
        self.steps.iter().filter(|line| matches!(line.event, Event::Update(_))).count() as u64
    }

    /// A file that was removed is none to resume from.
    fn forget(&mut self, path: &str) {
        self.checkpoints.retain(|it| it.edge != CheckpointEdge::Saved || it.path != path);
    }

    /// What the process did until its cut, and what it did after the signal that told it to end.
    pub fn at_cut(&self) -> (&[Line], &[Line]) {
        let mut micro_batches = 0;
        let first_after = self.steps.iter().position(|line| {
            micro_batches += u64::from(matches!(line.event, Event::MicroBatch(_)));
            self.cut_after.is_some_and(|after| micro_batches > after)
        });
        self.steps.split_at(first_after.unwrap_or(self.steps.len()))
    }

    /// The checkpoints that were saved whole, of more than `step` updates, the last first.
    pub fn saved_after(&self, step: u64) -> impl Iterator<Item = &Checkpoint> {
        let whole = |it: &&Checkpoint| it.edge == CheckpointEdge::Saved && it.whole == Some(true);
        self.checkpoints.iter().rev().filter(whole).filter(move |it| it.step > step)
    }

    /// What was loaded before training began, by path.
    pub fn loaded(&self) -> Vec<&str> {
        let loaded = self.checkpoints.iter().filter(|it| it.edge == CheckpointEdge::Loaded);
        loaded.map(|it| it.path.as_str()).collect()
    }
}

/// The state of a line.
pub(super) fn state(line: &Line) -> Option<&State> {
    match &line.event {
        Event::State(it) => Some(it),
        _ => None,
    }
}
