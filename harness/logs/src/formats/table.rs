//! CSV with one row per log call: Lightning's `metrics.csv`, and tables of scripts of one's own.

use std::path::Path;

use csv::{ReaderBuilder, StringRecord, Trim};
use traintrue_protocol::limited;

use crate::LogError;
use crate::json::LIMIT_BYTES;
use crate::rows::{Row, Rows};

/// What Lightning's CSVLogger calls its table. It leaves cells empty, and begins a new file with each run.
pub const LIGHTNING: &str = "metrics.csv";

/// Reads a table. Fails if a row has another number of cells than the header.
pub(crate) fn read(path: &Path) -> Result<Rows, LogError> {
    let bytes = limited::read(path, LIMIT_BYTES).map_err(LogError::io(path))?;
    let mut bytes = bytes.ok_or_else(|| LogError::TooLong { path: path.to_owned() })?;
    let mut rows = Rows::default();
    // A number that is cut short is another number: a row is read only with its line end.
    let whole = bytes.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
    if whole < bytes.len() && whole > 0 {
        rows.cut("the last row, which has no line end,");
        bytes.truncate(whole);
    }
    let not_csv = |error: csv::Error| {
        let line = error.position().map_or(1, csv::Position::line);
        LogError::Csv { path: path.to_owned(), line, source: error }
    };
    let mut reader = ReaderBuilder::new().trim(Trim::All).from_reader(bytes.as_slice());
    let header = reader.headers().map_err(not_csv)?.clone();
    let mut columns = Vec::new();
    for name in &header {
        let known = rows.names.len();
        columns.push(rows.name(name));
        if !name.is_empty() && rows.names.len() == known {
            return Err(LogError::TwiceNamed { path: path.to_owned(), name: name.to_owned() });
        }
    }
    let mut record = StringRecord::new();
    while reader.read_record(&mut record).map_err(not_csv)? {
        let mut row = Row { line: record.position().map_or(0, csv::Position::line), ..Row::default() };
        for (column, text) in columns.iter().zip(&record) {
            rows.cell(&mut row, *column, text);
        }
        rows.rows.push(row);
    }
    Ok(rows)
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn read_text(text: &[u8]) -> Result<Rows, String> {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        read(file.path()).map_err(|error| error.to_string().split_once(':').unwrap().1.to_owned())
    }

    #[test]
    fn an_empty_cell_is_no_number() {
        let rows = read_text(b"step,loss,name\n1,,a\n2,nan,b\n3,None,c\n").unwrap();
        let filled: Vec<_> = rows.rows.iter().map(|row| (row.line, row.figures.len())).collect();
        assert_eq!(filled, [(2, 1), (3, 2), (4, 1)]);
        assert_eq!(rows.texts[&2], (2, "a".to_owned()));
    }

    #[test]
    fn a_last_row_without_a_line_end_is_not_believed() {
        let rows = read_text(b"step,lr\n1,1e-5\n2,9.5").unwrap();
        assert_eq!(rows.rows.len(), 1);
        assert!(rows.notes[0].starts_with("the last row, which has no line end,"), "{:?}", rows.notes);
    }

    #[rstest]
    #[case(b"a,b\n1,2\n3\n4,5\n", "3: not CSV")]
    #[case(b"a,a\n1,2\n", " column \"a\" occurs twice")]
    #[case(b"a,b\n1,\xff\n", "2: not CSV")]
    fn what_is_no_table_is_an_error(#[case] text: &[u8], #[case] why: &str) {
        let error = read_text(text).unwrap_err();
        assert!(error.starts_with(why), "{error}");
    }
}
