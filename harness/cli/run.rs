//! `traintrue run`: every scenario, or some, by the reference trainer or by yours.

use std::path::PathBuf;

use clap::Args;
use traintrue::config::Config;
use traintrue::interrupt;
use traintrue::report::{json, junit, sarif, text};
use traintrue::waivers::{self, Waiving};
use traintrue_judge::verdict::RunReport;

use crate::Done;
use crate::bench::{BenchArgs, Request};
use crate::keep;
use crate::output::{self, Format};
use crate::progress::Progress;

#[derive(Args, Debug)]
pub struct RunArgs {
    #[command(flatten)]
    bench: BenchArgs,
    /// Your trainer: a command that takes `describe` or `run` as its last argument.
    #[arg(long, value_name = "COMMAND", conflicts_with_all = ["fault", "device"])]
    trainer: Option<String>,
    /// What the repository says of its trainer; by default traintrue.toml, where it is there. A fault or a device is the
    /// reference trainer's: the file is then left alone.
    #[arg(long, value_name = "FILE", conflicts_with_all = ["fault", "device"])]
    config: Option<PathBuf>,
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
    let of_the_reference = args.fault.is_some() || args.bench.device.is_some();
    let config = if of_the_reference { None } else { Config::find(args.config.as_deref())? };
    let bench = args.bench.open(&Request {
        trainer: args.trainer.as_deref(),
        fault: args.fault.as_deref(),
        seed: args.seed,
        config_path: args.config.as_deref(),
        config: config.as_ref(),
    })?;
    let scenarios = bench.scenarios(&args.bench.filters, args.bench.partition, args.seed)?;
    let mut report = {
        let progress = Progress::new(scenarios.len() as u64);
        bench.suite(&progress).run(&scenarios)?
    };
    report.notes.clone_from(&bench.notes);
    report.part = args.bench.partition;
    report.errors.splice(0..0, bench.refused(&args.bench.filters));
    if let Some(config) = &config {
        // A random plan may well not show a failure that is known.
        let catalogue = args.seed.is_none().then_some(&bench.catalogue);
        let reproduce = [&["run".to_owned()], bench.arguments.as_slice()].concat();
        report = Waiving { config, catalogue, today: waivers::today(), arguments: &reproduce }.apply(report);
    }
    // Shown also where the folder of the report cannot be written.
    let kept = bench.report.as_ref().map_or(Ok(()), |folder| keep::every_form(&folder.path, &report));
    show(&report, args.format)?;
    kept?;
    if let Some(signal) = interrupt::signal() {
        drop(bench);
        interrupt::as_without_us(signal);
    }
    Ok(report.exit())
}

/// Writes a report to standard output, and its errors to standard error.
pub fn show(report: &RunReport, format: Format) -> Result<(), Box<dyn std::error::Error>> {
    let text = match format {
        Format::Text => text::run(report),
        Format::Json => json::document(report)?,
        Format::Junit => junit::run(report)?,
        Format::Sarif => json::document(&sarif::run(report))?,
    };
    output::write(&text)?;
    output::complain(&report.errors);
    Ok(())
}
