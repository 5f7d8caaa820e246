//! What a format gives: rows of names and numbers, in the order in which they were written.

use std::collections::HashMap;

use crate::Counts;

/// The rows of a log.
#[derive(Debug, Default)]
pub(crate) struct Rows {
    pub(crate) rows: Vec<Row>,
    /// Each name once; a row refers to it by its place.
    pub(crate) names: Vec<String>,
    places: HashMap<String, usize>,
    /// Rows at which another process begins to write.
    pub(crate) starts: Vec<usize>,
    /// Updates of the whole run, if the format says so.
    pub(crate) max_steps: Option<u64>,
    /// What the steps count, if the format alone says so.
    pub(crate) counts: Counts,
    /// What the reader of the verdict must know.
    pub(crate) notes: Vec<String>,
    /// The first cell of each column that is no number: its line and its text.
    pub(crate) texts: HashMap<usize, (u64, String)>,
}

/// Cells of these words are empty: what Python and R write where a value is missing.
const EMPTY: [&str; 4] = ["", "None", "null", "NA"];
/// Errors show at most this many characters of a cell.
const SHOWN_CHARS: usize = 40;

/// What was logged at once.
#[derive(Debug, Default)]
pub(crate) struct Row {
    /// The line of the file, from 1; 0 in a binary file.
    pub(crate) line: u64,
    /// The step, in a format where each value has one.
    pub(crate) step: Option<i64>,
    /// Values by the place of their name.
    pub(crate) figures: Vec<(usize, f64)>,
}

impl Row {
    pub(crate) fn get(&self, name: usize) -> Option<f64> {
        self.figures.iter().find(|(other, _)| *other == name).map(|(_, value)| *value)
    }
}

impl Rows {
    /// The place of a name, new or known.
    pub(crate) fn name(&mut self, name: &str) -> usize {
        if let Some(&place) = self.places.get(name) {
            return place;
        }
        self.names.push(name.to_owned());
        self.places.insert(name.to_owned(), self.names.len() - 1);
        self.names.len() - 1
    }

    /// Adds a value of a format that writes values one by one. Values of one step, each of another name, are a row.
    pub(crate) fn scalar(&mut self, step: i64, name: &str, value: f64) {
        let name = self.name(name);
        let begun = self.starts.last() == Some(&self.rows.len());
        match self.rows.last_mut().filter(|row| !begun && row.step == Some(step) && row.get(name).is_none()) {
            Some(row) => row.figures.push((name, value)),
            None => self.rows.push(Row { line: 0, step: Some(step), figures: vec![(name, value)] }),
        }
    }

    /// Adds a printed value to a row.
    pub(crate) fn cell(&mut self, row: &mut Row, name: usize, text: &str) {
        match text.trim() {
            text if EMPTY.contains(&text) => {}
            text => match text.parse() {
                Ok(value) => row.figures.push((name, value)),
                Err(_) => {
                    let shown = || (row.line, text.chars().take(SHOWN_CHARS).collect());
                    self.texts.entry(name).or_insert_with(shown);
                }
            },
        }
    }

    /// Says that another process writes from here on.
    pub(crate) fn start(&mut self) {
        if !self.rows.is_empty() && self.starts.last() != Some(&self.rows.len()) {
            self.starts.push(self.rows.len());
        }
    }

    /// Says that the last record is incomplete: the writer was killed.
    pub(crate) fn cut(&mut self, what: &str) {
        self.notes.push(format!("{what} is incomplete and was not read: the process ended while it wrote"));
    }

    /// The names, for an error.
    pub(crate) fn listed(&self) -> String {
        const SHOWN: usize = 12;
        let mut names: Vec<&str> = self.names.iter().take(SHOWN).map(String::as_str).collect();
        let more = self.names.len().saturating_sub(SHOWN);
        let rest = format!("{more} more");
        if more > 0 {
            names.push(&rest);
        }
        if names.is_empty() { "no column".to_owned() } else { names.join(", ") }
    }
}
