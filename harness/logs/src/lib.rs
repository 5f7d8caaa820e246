//! The logs that training runs leave, whatever wrote them, in one form.
//!
//! ```text
//! path ──> format ──> rows: names and numbers ──> columns: step, loss, … ──> restarts ──> Log
//! ```
//!
//! Each format is one file in `formats/` and gives rows. [`Log`] is all that a rule or a gate sees: neither knows which
//! library wrote it. `trainer_state.json` holds counts beside its log, so that format gives a [`Log`] directly.

#![forbid(unsafe_code)]

mod columns;
mod error;
mod formats;
pub mod json;
mod log;
mod precision;
mod python_json;
mod read;
mod restarts;
mod rows;

pub use columns::{Column, Columns, ColumnsError, Layout};
pub use error::LogError;
pub use formats::table::LIGHTNING;
pub use formats::text::{Pattern, PatternError};
pub use formats::trainer_state;
pub use log::{Best, Counts, Entry, Log, Patience};
pub use precision::Precision;
pub use read::{is_log, read};
