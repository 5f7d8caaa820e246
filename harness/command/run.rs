//! `traintrue run`: every scenario, or some, by the reference trainer or by yours.

use clap::Args;
use traintrue::exit::Exit;
use traintrue::report::{json, junit, text};
use traintrue::verdict::RunReport;

use crate::Done;
use crate::bench::BenchArgs;
use crate::output::{self, Format};
use crate::progress::Progress;

#[derive(Args, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    bench: BenchArgs,
    /// Your trainer: a command that takes `describe` or `run` as its last argument.
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["fault", "device"])]
    trainer: Option<String>,
    /// Run the scenarios on the random plans of this seed in place of the written ones.
    #[arg(long, value_name = "N")]
    seed: Option<u64>,
    /// Plant one fault in the reference trainer.
    #[arg(long, value_name = "ID")]
    fault: Option<String>,
    /// The form of the report.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

pub fn run(args: &RunArgs) -> Done {
    let bench = args.bench.open(args.trainer.as_deref(), args.fault.as_deref(), args.seed)?;
    let scenarios = bench.scenarios(&args.bench.filters, args.seed)?;
    let report = {
        let progress = Progress::new(scenarios.len() as u64);
        bench.suite(&progress).run(&scenarios)?
    };
    bench.keep("report.json", &json::document(&report)?)?;
    bench.keep("junit.xml", &junit::run(&report)?)?;
    show(&report, args.format)?;
    Ok(Exit::of(&report.summary))
}

/// Writes a report to standard output.
pub fn show(report: &RunReport, format: Format) -> Result<(), Box<dyn std::error::Error>> {
    let text = match format {
        Format::Text => text::run(report, output::paint()),
        Format::Json => json::document(report)?,
        Format::Junit => junit::run(report)?,
    };
    Ok(output::write(&text)?)
}
