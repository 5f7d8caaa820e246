//! `traintrue explain`: one scenario, fault, invariant, component or capability in full.

use clap::Args;
use traintrue::report::explain::explain as page;
use traintrue_protocol::exit::Exit;

use crate::catalogue::CatalogueArgs;
use crate::{Done, output};

#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// The id of a scenario or fault, or the name of an invariant, component or capability.
    id: String,
    #[command(flatten)]
    catalogue: CatalogueArgs,
}

pub fn explain(args: &ExplainArgs) -> Done {
    let catalogue = args.catalogue.load()?;
    if let Some(refused) = catalogue.refused(&[]).find(|refused| refused.id == args.id) {
        return Err(refused.problem.clone().into());
    }
    output::write(&page(&catalogue, &args.id)?)?;
    Ok(Exit::Held)
}
