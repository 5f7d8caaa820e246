//! The published JSON Schemas: the trainer's side, from traintrue-protocol, and the scenario file.

use std::path::Path;

use schemars::Schema;
use traintrue_protocol::schema::{self, SchemaError};

use crate::scenario::Scenario;

/// Each schema by the name of its file.
pub fn all() -> impl Iterator<Item = (&'static str, Schema)> {
    schema::all().into_iter().chain([("scenario.json", schema::of::<Scenario>())])
}

/// Writes every schema into `folder`. Fails where the folder is missing or a file cannot be written.
pub fn accept(folder: &Path) -> Result<(), SchemaError> {
    schema::write(folder, all())
}
