//! Reads a trace a line at a time, in memory that does not grow with its length.

use std::fs::File;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};

use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::event::Event;
use crate::plan::SCHEMA;

/// A longer line is refused: no trainer writes one, and a trace that never ends a line must not fill the memory.
pub const LINE_LIMIT_BYTES: usize = 256 << 20;

/// One event and where it stands.
#[derive(Clone, Debug)]
pub struct Line {
    /// The line in its file, from 1.
    pub number: u64,
    /// What it says.
    pub event: Event,
}

/// A trace that cannot be read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum TraceError {
    #[error("{path}: cannot read the trace: {source}", path = .path.display())]
    Io { path: PathBuf, source: std::io::Error },
    #[error("{path}:{line}: not an event: {source}; a trace holds one JSON object a line{hint}", path = .path.display())]
    Json { path: PathBuf, line: u64, source: serde_json::Error, hint: &'static str },
    #[error(
        "{path}:{line}: unknown event {event:?}; schema {SCHEMA} has run, micro_batch, update, state, probe, memory, epoch, evaluation, checkpoint, adapted, oom and end",
        path = .path.display()
    )]
    UnknownEvent { path: PathBuf, line: u64, event: String },
    #[error("{path}:{line}: the {event} event does not parse: {source}", path = .path.display())]
    Field { path: PathBuf, line: u64, event: String, source: serde_json::Error },
    #[error("{path}:{line}: the last line is cut short: it has no line end; the trainer died while it wrote", path = .path.display())]
    CutShort { path: PathBuf, line: u64 },
    #[error("{path}:{line}: the line is not UTF-8", path = .path.display())]
    NotUtf8 { path: PathBuf, line: u64 },
    #[error("{path}:{line}: the line is longer than {LINE_LIMIT_BYTES} bytes", path = .path.display())]
    TooLong { path: PathBuf, line: u64 },
    #[error("{path}: the first event is {found}, expected run with schema {SCHEMA}", path = .path.display())]
    NoRun { path: PathBuf, found: String },
    #[error("{path}:1: the trace has schema {found}, this command reads schema {SCHEMA}", path = .path.display())]
    Schema { path: PathBuf, found: u64 },
}

impl TraceError {
    /// The line that it stands in, from 1, where it stands in one.
    pub fn line(&self) -> Option<u64> {
        match self {
            Self::Json { line, .. }
            | Self::UnknownEvent { line, .. }
            | Self::Field { line, .. }
            | Self::CutShort { line, .. }
            | Self::NotUtf8 { line, .. }
            | Self::TooLong { line, .. } => Some(*line),
            Self::Io { .. } | Self::NoRun { .. } | Self::Schema { .. } => None,
        }
    }
}

/// The events of one trace file, in order.
pub struct TraceReader {
    path: PathBuf,
    from: BufReader<File>,
    buffer: Vec<u8>,
    line: u64,
    begun: bool,
    failed: bool,
}

impl TraceReader {
    /// Opens a trace. Fails where the file cannot be read; what stands in it is judged line by line.
    pub fn open(path: &Path) -> Result<Self, TraceError> {
        let file = File::open(path).map_err(|source| TraceError::Io { path: path.to_owned(), source })?;
        Ok(Self {
            path: path.to_owned(),
            from: BufReader::with_capacity(1 << 16, file),
            buffer: Vec::new(),
            line: 0,
            begun: false,
            failed: false,
        })
    }

    fn read_line(&mut self) -> Result<bool, TraceError> {
        self.buffer.clear();
        let io = |source| TraceError::Io { path: self.path.clone(), source };
        loop {
            let available = self.from.fill_buf().map_err(io)?;
            if available.is_empty() {
                break;
            }
            let end = available.iter().position(|&byte| byte == b'\n');
            let taken = end.map_or(available.len(), |at| at + 1);
            self.buffer.extend_from_slice(&available[..taken]);
            self.from.consume(taken);
            if end.is_some() {
                break;
            }
            if self.buffer.len() > LINE_LIMIT_BYTES {
                return Err(TraceError::TooLong { path: self.path.clone(), line: self.line + 1 });
            }
        }
        if self.buffer.is_empty() {
            return Ok(false);
        }
        self.line += 1;
        if self.buffer.last() != Some(&b'\n') {
            return Err(TraceError::CutShort { path: self.path.clone(), line: self.line });
        }
        Ok(true)
    }

    fn next_line(&mut self) -> Result<Option<Line>, TraceError> {
        while self.read_line()? {
            let (path, line) = (&self.path, self.line);
            let text = std::str::from_utf8(&self.buffer)
                .map_err(|_| TraceError::NotUtf8 { path: path.clone(), line })?;
            if text.trim().is_empty() {
                continue;
            }
            let event = parse(text).map_err(|error| error.at(path, line))?;
            if !self.begun && !matches!(event, Event::Run(_)) {
                return Err(TraceError::NoRun { path: path.clone(), found: event.name().to_owned() });
            }
            self.begun = true;
            return Ok(Some(Line { number: line, event }));
        }
        if !self.begun {
            return Err(TraceError::NoRun {
                path: self.path.clone(),
                found: "missing: the trace is empty".into(),
            });
        }
        Ok(None)
    }
}

impl Iterator for TraceReader {
    type Item = Result<Line, TraceError>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.failed {
            return None;
        }
        let next = self.next_line().transpose();
        self.failed = matches!(next, Some(Err(_)));
        next
    }
}

enum ParseError {
    Json(serde_json::Error, &'static str),
    Unknown(String),
    Field(String, serde_json::Error),
    Schema(u64),
}

impl ParseError {
    fn at(self, path: &Path, line: u64) -> TraceError {
        let path = path.to_owned();
        match self {
            Self::Json(source, hint) => TraceError::Json { path, line, source, hint },
            Self::Unknown(event) => TraceError::UnknownEvent { path, line, event },
            Self::Field(event, source) => TraceError::Field { path, line, event, source },
            Self::Schema(found) => TraceError::Schema { path, found },
        }
    }
}

/// Some JSON writers put down NaN and Infinity, which no JSON reader takes.
fn hint_on(text: &str) -> &'static str {
    match text.contains("NaN") || text.contains("Infinity") {
        true => "; numbers that are not finite are the strings \"nan\", \"inf\" and \"-inf\"",
        false => "",
    }
}

/// The name is read first and then the one type that it stands for: messages name the field, and nothing is buffered.
fn parse(text: &str) -> Result<Event, ParseError> {
    #[derive(Deserialize)]
    struct Head<'a> {
        #[serde(borrow)]
        event: std::borrow::Cow<'a, str>,
        #[serde(default)]
        schema: Option<u64>,
    }
    fn body<T: DeserializeOwned>(event: &str, text: &str) -> Result<T, ParseError> {
        serde_json::from_str(text).map_err(|source| ParseError::Field(event.to_owned(), source))
    }

    let head: Head = serde_json::from_str(text).map_err(|source| ParseError::Json(source, hint_on(text)))?;
    let name = head.event.as_ref();
    Ok(match name {
        "run" => match head.schema {
            Some(other) if other != u64::from(SCHEMA) => return Err(ParseError::Schema(other)),
            _ => Event::Run(Box::new(body(name, text)?)),
        },
        "micro_batch" => Event::MicroBatch(body(name, text)?),
        "update" => Event::Update(body(name, text)?),
        "state" => Event::State(Box::new(body(name, text)?)),
        "probe" => Event::Probe(Box::new(body(name, text)?)),
        "operation" => Event::Operation(body(name, text)?),
        "memory" => Event::Memory(body(name, text)?),
        "epoch" => Event::Epoch(body(name, text)?),
        "evaluation" => Event::Evaluation(body(name, text)?),
        "checkpoint" => Event::Checkpoint(body(name, text)?),
        "adapted" => Event::Adapted(body(name, text)?),
        "oom" => Event::Oom(body(name, text)?),
        "end" => Event::End(body(name, text)?),
        other => return Err(ParseError::Unknown(other.to_owned())),
    })
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::written_by_python("{\"event\":\"evaluation\",\"metric\":NaN}", true)]
    #[case::no_json("loss 0.5", false)]
    fn a_number_that_is_no_json_is_told_how_it_is_written(#[case] text: &str, #[case] hinted: bool) {
        let Err(error) = parse(text) else { panic!("parsed") };
        let message = error.at(Path::new("one.jsonl"), 7).to_string();
        assert!(
            message.starts_with("one.jsonl:7: not an event: expected value at line 1 column "),
            "{message}"
        );
        assert_eq!(message.ends_with("the strings \"nan\", \"inf\" and \"-inf\""), hinted, "{message}");
    }
}
