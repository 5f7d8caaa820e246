//! `traintrue explain`: one scenario, fault or invariant in full.

use clap::Args;
use traintrue::report::explain::explain as page;
use traintrue_protocol::exit::Exit;

use crate::catalogue::CatalogueArgs;
use crate::{Done, output};

#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// A scenario's id, a fault's, or an invariant's name.
    id: String,
    #[command(flatten)]
    catalogue: CatalogueArgs,
}

pub fn explain(args: &ExplainArgs) -> Done {
    output::write(&page(&args.catalogue.load()?, &args.id)?)?;
    Ok(Exit::Held)
}
