//! `traintrue list`: the catalogue at a glance.

use std::path::PathBuf;

use clap::Args;
use traintrue::report::{catalogue as page, json, list as listing};

use crate::Done;
use crate::catalogue::CatalogueArgs;
use crate::keep;
use crate::output::{self, ListFormat};

#[derive(Args, Debug)]
pub struct ListArgs {
    #[command(flatten)]
    catalogue: CatalogueArgs,
    /// Write the whole catalogue as one page into this folder: catalogue.html.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// The form of the listing.
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    format: ListFormat,
}

pub fn list(args: &ListArgs) -> Done {
    let catalogue = args.catalogue.load()?;
    let list = listing::list(&catalogue);
    output::write(&match args.format {
        ListFormat::Text => listing::text(&list),
        ListFormat::Json => json::document(&list)?,
    })?;
    if let Some(folder) = &args.report {
        keep::file(folder, "catalogue.html", page::page(&catalogue))?;
    }
    let refused: Vec<String> = catalogue.refused(&[]).map(|refused| refused.problem.clone()).collect();
    Ok(output::complain(&refused))
}
