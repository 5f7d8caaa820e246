//! The standard output of a training, by a regular expression with a named group per column.

use std::fs::File;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;
use std::str::FromStr;

use regex::bytes::Regex;

use crate::columns::words;
use crate::rows::{Row, Rows};
use crate::{Column, LogError};

/// Longer lines are binary data without line ends, and are passed over.
const LINE_MOST_BYTES: u64 = 16 << 10;

/// An expression that finds a row in a line.
#[derive(Clone, Debug)]
pub struct Pattern {
    expression: Regex,
    groups: Vec<(Column, String)>,
}

/// An expression that cannot find rows.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum PatternError {
    #[error("{text:?} is not a regular expression: {problem}")]
    Syntax { text: String, problem: String },
    #[error("group {group:?} is no column; expected one of {}", words())]
    Group { group: String },
    #[error(
        "the pattern has no group for the step; expected for example 'step (?P<step>\\d+).*loss (?P<loss>\\S+)'"
    )]
    NoStep,
}

impl FromStr for Pattern {
    type Err = PatternError;

    fn from_str(text: &str) -> Result<Self, PatternError> {
        let syntax =
            |error: regex::Error| PatternError::Syntax { text: text.into(), problem: error.to_string() };
        let expression = Regex::new(text).map_err(syntax)?;
        let column = |group: &str| match group.parse() {
            Ok(column) => Ok((column, group.to_owned())),
            Err(_) => Err(PatternError::Group { group: group.to_owned() }),
        };
        let groups: Vec<_> = expression.capture_names().flatten().map(column).collect::<Result<_, _>>()?;
        match groups.iter().any(|(column, _)| *column == Column::Step) {
            true => Ok(Self { expression, groups }),
            false => Err(PatternError::NoStep),
        }
    }
}

/// Reads what was printed. A carriage return also ends a line, for progress bars.
pub(crate) fn read(path: &Path, pattern: &Pattern) -> Result<Rows, LogError> {
    let mut reader = BufReader::new(File::open(path).map_err(LogError::io(path))?);
    let (mut rows, mut line, mut text) = (Rows::default(), 0, Vec::new());
    let names: Vec<usize> = pattern.groups.iter().map(|(column, _)| rows.name(column.figure())).collect();
    loop {
        text.clear();
        let read = (&mut reader).take(LINE_MOST_BYTES).read_until(b'\n', &mut text);
        if read.map_err(LogError::io(path))? == 0 {
            break;
        }
        line += 1;
        if !text.ends_with(b"\n") && pass_over(&mut reader).map_err(LogError::io(path))? {
            continue;
        }
        let ended = text.ends_with(b"\n");
        for part in text.split_inclusive(|byte| matches!(byte, b'\n' | b'\r')) {
            let Some(found) = pattern.expression.captures(part) else { continue };
            // A number that is cut short is another number.
            if !ended && !part.ends_with(b"\r") {
                rows.cut(&format!("line {line}, the last,"));
                continue;
            }
            let mut row = Row { line, ..Row::default() };
            for ((_, group), name) in pattern.groups.iter().zip(&names) {
                if let Some(cell) = found.name(group) {
                    rows.cell(&mut row, *name, &String::from_utf8_lossy(cell.as_bytes()));
                }
            }
            rows.rows.push(row);
        }
    }
    if rows.rows.is_empty() {
        let pattern = pattern.expression.to_string();
        return Err(LogError::NoMatch { path: path.to_owned(), pattern });
    }
    Ok(rows)
}

/// Reads to the end of a line that is too long. Returns whether there was more of it.
fn pass_over(reader: &mut impl BufRead) -> std::io::Result<bool> {
    let mut more = false;
    loop {
        let bytes = reader.fill_buf()?;
        let (used, ended) = match bytes.iter().position(|byte| *byte == b'\n') {
            Some(at) => (at + 1, true),
            None => (bytes.len(), bytes.is_empty()),
        };
        more |= used > 0;
        reader.consume(used);
        if ended {
            return Ok(more);
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn read_text(text: &[u8], pattern: &str) -> Result<Rows, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path(), &pattern.parse().unwrap()).map_err(|error| error.to_string())
    }

    const STEP: &str = r"step (?P<step>\d+).*loss (?P<loss>\S+)";

    #[rstest]
    #[case(b"hello\nstep 1 loss 0.5\nstep 2: loss nan\n", &[2, 3], 0)]
    #[case(b"\rstep 1 loss 0.5\rstep 2 loss 0.25\n", &[1, 1], 0)]
    #[case(b"step 1 loss 0.5\r\nstep 2 loss 0.2", &[1], 1)]
    #[case(b"\xff\xfe step 1 loss 0.5\n", &[1], 0)]
    fn rows_are_found_in_lines(#[case] text: &[u8], #[case] lines: &[u64], #[case] notes: usize) {
        let rows = read_text(text, STEP).unwrap();
        assert_eq!(rows.rows.iter().map(|row| row.line).collect::<Vec<_>>(), lines);
        assert_eq!(
            (rows.names.as_slice(), rows.notes.len()),
            (["step", "loss"].map(str::to_owned).as_slice(), notes)
        );
    }

    #[test]
    fn a_line_without_an_end_is_passed_over() {
        let endless = vec![b'x'; 3 * LINE_MOST_BYTES as usize];
        let rows =
            read_text(&[&endless[..], b" step 1 loss 2\nstep 2 loss 2\n", &endless].concat(), STEP).unwrap();
        assert_eq!(rows.rows.iter().map(|row| row.line).collect::<Vec<_>>(), [2]);
    }

    #[test]
    fn a_pattern_that_matches_nothing_is_an_error() {
        let error = read_text(b"loss 1\n", STEP).unwrap_err();
        assert!(error.contains("no line matches the pattern"), "{error}");
    }

    #[rstest]
    #[case("step (", "\"step (\" is not a regular expression")]
    #[case("(?P<loss>x)", "the pattern has no group for the step")]
    #[case("(?P<step>x)(?P<los>x)", "group \"los\" is no column; expected one of step, epoch")]
    fn an_expression_that_finds_nothing_is_refused(#[case] text: &str, #[case] why: &str) {
        let error = text.parse::<Pattern>().unwrap_err().to_string();
        assert!(error.starts_with(why), "{error}");
    }
}
