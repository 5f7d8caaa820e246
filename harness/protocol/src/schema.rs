//! The trainer's side as JSON Schema 2020-12, for people who write a trainer in any language: `golden/schema/`, written by
//! `traintrue accept` from the types that this crate reads with.

use std::path::{Path, PathBuf};
use std::{fs, io};

use schemars::generate::SchemaSettings;
use schemars::transform::RecursiveTransform;
use schemars::{JsonSchema, Schema};
use serde_json::Value;

use crate::contract::Description;
use crate::plan::Plan;
use crate::trace::Event;

/// A schema that cannot be written.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum SchemaError {
    #[error("{path}: cannot write the schema: {source}", path = .path.display())]
    Io { path: PathBuf, source: io::Error },
    #[error("{path}: the schema is no JSON: {source}", path = .path.display())]
    Json { path: PathBuf, source: serde_json::Error },
}

/// Each published schema by the name of its file: a plan, one line of a trace, the line that answers `describe`.
pub fn all() -> [(&'static str, Schema); 3] {
    [("plan.json", of::<Plan>()), ("trace.json", of::<Event>()), ("description.json", of::<Description>())]
}

/// Writes schemas into `folder`. Fails where the folder is missing or a file cannot be written.
pub fn write(
    folder: &Path,
    schemas: impl IntoIterator<Item = (&'static str, Schema)>,
) -> Result<(), SchemaError> {
    for (name, schema) in schemas {
        let path = folder.join(name);
        let text = serde_json::to_string_pretty(&schema)
            .map_err(|source| SchemaError::Json { path: path.clone(), source })?;
        fs::write(&path, text + "\n").map_err(|source| SchemaError::Io { path, source })?;
    }
    Ok(())
}

/// The schema of one document.
pub fn of<T: JsonSchema>() -> Schema {
    let settings = SchemaSettings::draft2020_12().with_transform(RecursiveTransform(settle));
    settings.into_generator().into_root_schema_for::<T>()
}

/// The width of an integer is an annotation to most validators: here it is a bound. And a description is one line, wherever
/// the source breaks it.
fn settle(schema: &mut Schema) {
    let most = match schema.get("format").and_then(Value::as_str) {
        Some("uint32") => Some(u64::from(u32::MAX)),
        Some("uint64") => Some(u64::MAX),
        _ => None,
    };
    if let Some(most) = most.filter(|_| schema.get("maximum").is_none()) {
        schema.insert("maximum".to_owned(), most.into());
    }
    if let Some(Value::String(description)) = schema.get_mut("description") {
        *description = description.replace('\n', " ");
    }
}
