//! JSON files of bounded length, with errors that name the field.

use std::path::Path;

use traintrue_protocol::limited;

use crate::LogError;

/// A longer JSON file is neither a log nor a configuration, and is not read into memory.
pub(crate) const LIMIT_BYTES: u64 = 256 << 20;

/// The text of a JSON file of at most 256 MiB.
pub fn read_text(path: &Path) -> Result<String, LogError> {
    let bytes = limited::read(path, LIMIT_BYTES).map_err(LogError::io(path))?;
    let bytes = bytes.ok_or_else(|| LogError::TooLong { path: path.to_owned() })?;
    String::from_utf8(bytes).map_err(|_| LogError::NotUtf8 { path: path.to_owned() })
}

/// A JSON document; the error names the field.
pub fn parse<'a, T: serde::Deserialize<'a>>(path: &Path, text: &'a str) -> Result<T, LogError> {
    let document = &mut serde_json::Deserializer::from_str(text);
    serde_path_to_error::deserialize(document)
        .map_err(|source| LogError::Json { path: path.to_owned(), source })
}
