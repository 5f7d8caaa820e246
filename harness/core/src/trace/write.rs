//! Writes a trace, flushed a line at a time, so that a killed trainer leaves all that it did.

use std::io::{self, Write};

use super::event::Event;

/// Writes events as JSON lines.
pub struct TraceWriter<W: Write> {
    to: W,
    line: Vec<u8>,
}

impl<W: Write> TraceWriter<W> {
    /// A writer to anything: a file, standard output, memory.
    pub fn new(to: W) -> Self {
        Self { to, line: Vec::new() }
    }

    /// Writes one event and flushes it. Fails as the writer beneath does.
    pub fn write(&mut self, event: &Event) -> io::Result<()> {
        self.line.clear();
        serde_json::to_writer(&mut self.line, event)?;
        self.line.push(b'\n');
        self.to.write_all(&self.line)?;
        self.to.flush()
    }
}
