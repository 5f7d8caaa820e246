//! Logs of one JSON object per line: LLaMA-Factory's `trainer_log.jsonl`, and those of scripts of one's own.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use serde_json::Value;

use crate::python_json::readable;
use crate::rows::{Row, Rows};
use crate::{Counts, LogError};

/// What LLaMA-Factory calls its log. It appends a resumed run's.
pub(crate) const LLAMA_FACTORY: &str = "trainer_log.jsonl";
/// Where it has the updates of the whole run.
const TOTAL: &str = "total_steps";
/// A longer line is no log entry.
const LINE_MOST_BYTES: u64 = 16 << 20;

/// Reads LLaMA-Factory's log. It writes what transformers' Trainer logs.
pub(crate) fn read_llama_factory(path: &Path) -> Result<Rows, LogError> {
    let mut rows = read(path)?;
    let total = rows.names.iter().position(|name| name == TOTAL);
    let last = total.and_then(|total| rows.rows.iter().rev().find_map(|row| row.get(total)));
    rows.max_steps = last.filter(|total| *total >= 1.0).map(|total| total as u64);
    rows.counts = Counts::Updates;
    Ok(rows)
}

/// Reads a log. A number may be a string, and NaN as Python writes it.
pub(crate) fn read(path: &Path) -> Result<Rows, LogError> {
    let mut reader = BufReader::new(File::open(path).map_err(LogError::io(path))?);
    let (mut rows, mut line, mut text) = (Rows::default(), 0, Vec::new());
    loop {
        text.clear();
        line += 1;
        let read = (&mut reader).take(LINE_MOST_BYTES + 1).read_until(b'\n', &mut text);
        if read.map_err(LogError::io(path))? == 0 {
            return Ok(rows);
        }
        if text.len() as u64 > LINE_MOST_BYTES {
            return Err(LogError::LongLine { path: path.to_owned(), line, most: LINE_MOST_BYTES });
        }
        let object = String::from_utf8_lossy(&text);
        if object.trim().is_empty() {
            continue;
        }
        match serde_json::from_str::<BTreeMap<String, Value>>(&readable(&object, "").0) {
            Ok(object) => {
                let mut row = Row { line, ..Row::default() };
                for (name, value) in object {
                    let name = rows.name(&name);
                    match (&value, number(&value)) {
                        (_, Some(value)) => row.figures.push((name, value)),
                        (Value::String(text), None) => rows.cell(&mut row, name, text),
                        _ => {}
                    }
                }
                rows.rows.push(row);
            }
            Err(_) if !text.ends_with(b"\n") => rows.cut(&format!("line {line}, the last,")),
            Err(source) => return Err(LogError::JsonLine { path: path.to_owned(), line, source }),
        }
    }
}

/// A number, or a string that is one.
pub(super) fn number(value: &Value) -> Option<f64> {
    match value {
        Value::Number(number) => number.as_f64(),
        Value::String(text) => text.trim().parse().ok(),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn read_text(text: &str) -> Result<Rows, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read_llama_factory(file.path())
            .map_err(|error| error.to_string().split_once(':').unwrap().1.to_owned())
    }

    #[test]
    fn objects_are_rows_with_their_lines() {
        let text =
            "{\"a\": NaN, \"total_steps\": 9, \"x\": [1]}\n\n{\"a\": \"2.5e-05\", \"text\": \"words\"}\n";
        let rows = read_text(text).unwrap();
        assert_eq!(rows.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [1, 3]);
        assert_eq!((rows.rows[1].figures.as_slice(), rows.max_steps), ([(0, 2.5e-5)].as_slice(), Some(9)));
        assert_eq!(rows.texts.values().collect::<Vec<_>>(), [&(3, "words".to_owned())]);
    }

    #[rstest]
    #[case("{\"a\": 1}\n{\"a\": ", "line 2, the last, is incomplete")]
    #[case("{\"a\": 1}\n{\"a\": 1}", "")]
    fn the_last_line_may_be_incomplete(#[case] text: &str, #[case] note: &str) {
        let rows = read_text(text).unwrap();
        assert!(rows.notes.first().map_or("", String::as_str).starts_with(note));
        assert_eq!(rows.rows.len(), if note.is_empty() { 2 } else { 1 });
    }

    #[rstest]
    #[case("{\"a\": \n{\"a\": 1}\n", "1: not a JSON object: EOF")]
    #[case("{\"a\": 1}\n[1]\n", "2: not a JSON object: invalid type")]
    fn a_line_that_is_no_object_is_an_error(#[case] text: &str, #[case] why: &str) {
        let error = read_text(text).unwrap_err();
        assert!(error.starts_with(why), "{error}");
    }
}
