//! `traintrue list`: the catalogue at a glance.

use std::path::PathBuf;

use clap::Args;
use traintrue::exit::Exit;
use traintrue::report::{json, list as listing};
use traintrue::scenario::Catalogue;

use crate::Done;
use crate::output::{self, ListFormat};

#[derive(Args, Debug)]
pub struct ListArgs {
    /// A folder of your own scenarios, beside ours.
    #[arg(long, value_name = "DIR")]
    scenarios: Option<PathBuf>,
    /// The form of the listing.
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    format: ListFormat,
}

pub fn list(args: &ListArgs) -> Done {
    let list = listing::list(&Catalogue::load(args.scenarios.as_deref())?);
    output::write(&match args.format {
        ListFormat::Text => listing::text(&list),
        ListFormat::Json => json::document(&list)?,
    })?;
    Ok(Exit::Held)
}
