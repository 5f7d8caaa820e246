//! The events of a run, read one at a time: its segments one after another, or one of them.

use std::path::PathBuf;

use traintrue_protocol::trace::event::Run;
use traintrue_protocol::trace::{Event, Line, TraceError, TraceReader};

/// A reader over some segments of a run. It holds at most one line.
pub(crate) struct Stream<'a> {
    segments: std::slice::Iter<'a, PathBuf>,
    reader: Option<TraceReader>,
    held: Option<Line>,
    dying: bool,
}

impl<'a> Stream<'a> {
    pub(crate) fn of(segments: &'a [PathBuf]) -> Self {
        Self { segments: segments.iter(), reader: None, held: None, dying: false }
    }

    /// A segment whose trainer was killed: it may end anywhere, even before its first line or within a line.
    pub(crate) fn of_dying(segment: &'a PathBuf) -> Self {
        Self { dying: true, ..Self::of(std::slice::from_ref(segment)) }
    }

    pub(crate) fn next(&mut self) -> Result<Option<Line>, TraceError> {
        if let Some(line) = self.held.take() {
            return Ok(Some(line));
        }
        loop {
            match self.reader.as_mut().and_then(Iterator::next) {
                Some(Err(TraceError::CutShort { .. } | TraceError::NoRun { .. })) if self.dying => {
                    return Ok(None);
                }
                Some(line) => return line.map(Some),
                None => match self.segments.next() {
                    Some(path) => self.reader = Some(TraceReader::open(path)?),
                    None => return Ok(None),
                },
            }
        }
    }

    /// The next line whose event is wanted.
    pub(crate) fn next_where(&mut self, wanted: impl Fn(&Event) -> bool) -> Result<Option<Line>, TraceError> {
        while let Some(line) = self.next()? {
            if wanted(&line.event) {
                return Ok(Some(line));
            }
        }
        Ok(None)
    }

    /// Puts a line back, so that `next` returns it again.
    pub(crate) fn hold(&mut self, line: Line) {
        self.held = Some(line);
    }

    /// The first line of the next trace.
    pub(crate) fn run(&mut self) -> Result<Option<Run>, TraceError> {
        Ok(match self.next_where(|event| matches!(event, Event::Run(_)))? {
            Some(Line { event: Event::Run(run), .. }) => Some(*run),
            _ => None,
        })
    }
}
