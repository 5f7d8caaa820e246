//! What a program reads: one document.

use serde::Serialize;

/// The document, with a line end.
pub fn document<T: Serialize>(report: &T) -> serde_json::Result<String> {
    Ok(serde_json::to_string_pretty(report)? + "\n")
}
