//! `traintrue describe`: one line of JSON, as every trainer answers.

use traintrue::exit::Exit;

use crate::{Done, output};

pub fn describe() -> Done {
    output::write(&(serde_json::to_string(&traintrue_reference::describe())? + "\n"))?;
    Ok(Exit::Held)
}
