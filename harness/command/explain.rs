//! `traintrue explain`: one scenario, fault or invariant in full.

use std::path::PathBuf;

use clap::Args;
use traintrue::exit::Exit;
use traintrue::report::explain::explain as page;
use traintrue::scenario::Catalogue;

use crate::{Done, output};

#[derive(Args, Debug)]
pub struct ExplainArgs {
    /// A scenario's id, a fault's, or an invariant's name.
    id: String,
    /// A folder of your own scenarios, beside ours.
    #[arg(long, value_name = "DIR")]
    scenarios: Option<PathBuf>,
}

pub fn explain(args: &ExplainArgs) -> Done {
    output::write(&page(&Catalogue::load(args.scenarios.as_deref())?, &args.id)?)?;
    Ok(Exit::Held)
}
