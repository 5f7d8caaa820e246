//! Writes a trace, flushed a line at a time, so that a killed trainer leaves all that it did.

use std::io::{self, Write};

use super::event::Event;

/// Writes events as JSON lines. Between two of them it holds nothing: a trainer's memory is measured there.
pub struct TraceWriter<W: Write> {
    to: W,
}

impl<W: Write> TraceWriter<W> {
    /// A writer to anything: a file, standard output, memory.
    pub fn new(to: W) -> Self {
        Self { to }
    }

    /// Writes one event and flushes it. Fails as the writer beneath does.
    pub fn write(&mut self, event: &Event) -> io::Result<()> {
        let mut line = serde_json::to_vec(event)?;
        line.push(b'\n');
        self.to.write_all(&line)?;
        self.to.flush()
    }
}
