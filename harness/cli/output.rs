//! Writes to standard output, in the form that was asked for; and what is wrong to standard error.

use std::io::{self, Write};

use clap::ValueEnum;
use traintrue_protocol::exit::Exit;

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

/// Writes `text`, without colours if standard output is no terminal. A reader that closes the pipe early is no error.
pub fn write(text: &str) -> io::Result<()> {
    match anstream::stdout().lock().write_all(text.as_bytes()) {
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => other,
    }
}

/// Writes what is wrong with the input to standard error; the exit status of that.
pub fn complain(errors: &[String]) -> Exit {
    for error in errors {
        eprintln!("traintrue: {error}");
    }
    if errors.is_empty() { Exit::Held } else { Exit::Request }
}
