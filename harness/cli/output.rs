//! Writes to standard output, in the form that was asked for.

use std::io::{self, IsTerminal, Write};

use clap::ValueEnum;
use traintrue::report::Paint;

/// The form of a report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// One document.
    Json,
    /// For continuous integration.
    Junit,
    /// For code scanning.
    Sarif,
}

/// The form of a report on faults.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum FaultsFormat {
    /// For people.
    Text,
    /// One document.
    Json,
    /// For continuous integration.
    Junit,
}

/// The form of a listing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum ListFormat {
    /// For people.
    Text,
    /// One document.
    Json,
}

/// Colour where a person sees it and has not declined it.
pub fn paint() -> Paint {
    let declined = std::env::var_os("NO_COLOR").is_some_and(|value| !value.is_empty());
    if io::stdout().is_terminal() && !declined { Paint::Colour } else { Paint::Plain }
}

/// Writes `text`; whoever stops reading early has read enough.
pub fn write(text: &str) -> io::Result<()> {
    match io::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}
