//! `traintrue check`: judges recorded traces by the scenario they name, or as a free pair.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use traintrue::check::{Relation, check as judge};
use traintrue::exit::Exit;
use traintrue::parallel::Slots;
use traintrue::scenario::Catalogue;

use crate::Done;
use crate::output::Format;
use crate::run::show;

#[derive(Args, Debug)]
pub struct CheckArgs {
    /// The traces; those of one run are its segments.
    #[arg(required = true, value_name = "TRACE")]
    traces: Vec<PathBuf>,
    /// Hold them, as one run, against this trace.
    #[arg(long, value_name = "TRACE", requires = "as_what")]
    against: Option<PathBuf>,
    /// What they must be to it.
    #[arg(long = "as", id = "as_what", value_enum, requires = "against")]
    as_what: Option<As>,
    /// A folder of your own scenarios, beside ours.
    #[arg(long, value_name = "DIR")]
    scenarios: Option<PathBuf>,
    /// The form of the report.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What a run must be to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum As {
    /// Cut and resumed, where the other never stopped.
    Seam,
    /// The same plan again.
    Equal,
    /// The same work in other micro-batches.
    Partition,
}

pub fn check(args: &CheckArgs) -> Done {
    let catalogue = Catalogue::load(args.scenarios.as_deref())?;
    let relation = args.as_what.map(|relation| match relation {
        As::Seam => Relation::Seam,
        As::Equal => Relation::Equal,
        As::Partition => Relation::Partition,
    });
    let against = args.against.as_deref().zip(relation);
    let slots = Slots::new(std::thread::available_parallelism().map_or(1, usize::from));
    let words: Vec<String> = std::env::args().skip(1).collect();
    let report = judge(&args.traces, against, &catalogue, &words, &slots)?;
    show(&report, args.format)?;
    Ok(Exit::of(&report.summary))
}
