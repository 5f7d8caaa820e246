//! `traintrue faults`: the clean trainer first, then every planted fault.

use std::path::PathBuf;

use clap::Args;
use traintrue::kill_matrix::{Lab, Matrix, compare};
use traintrue::report::{json, junit, text};
use traintrue::scenario::Scenario;
use traintrue_judge::verdict::{RunReport, Verdict};
use traintrue_protocol::exit::Exit;
use traintrue_protocol::nearest;

use crate::Done;
use crate::bench::{Bench, BenchArgs, BenchError, Request, reference};
use crate::output::{self, FaultsFormat};
use crate::progress::Progress;

/// The kill matrix that somebody has looked at.
pub const GOLDEN: &str = "golden/kill-matrix.json";

#[derive(Args, Debug)]
pub struct FaultsArgs {
    #[command(flatten)]
    bench: BenchArgs,
    /// Random plans that each fault is tried on beside the written one.
    #[arg(long, value_name = "N", default_value_t = 3)]
    random_plans: u64,
    /// Only this fault.
    #[arg(long, value_name = "ID")]
    fault: Option<String>,
    /// The kill matrix to compare with; one that is not there is not compared.
    #[arg(long, value_name = "FILE", default_value = GOLDEN)]
    golden: PathBuf,
    /// The form of the report.
    #[arg(long, value_enum, default_value_t = FaultsFormat::Text)]
    format: FaultsFormat,
}

pub fn faults(args: &FaultsArgs) -> Done {
    let bench = args.bench.open(&Request::default())?;
    let scenarios = with_faults(&bench, &args.bench, args.fault.as_deref())?;
    let mut matrix =
        matrix(&bench, args.bench.device(), &scenarios, args.random_plans, args.fault.as_deref())?;
    matrix.report.part = args.bench.partition;
    let report = &matrix.report;
    let whole = args.bench.filters.is_empty() && args.bench.partition.is_none() && args.fault.is_none();
    let compared = report.baseline != Verdict::Broken && args.golden.exists();
    let differences = if compared { compare(&args.golden, &report.faults, whole)? } else { Vec::new() };
    bench.keep("faults.json", json::document(report)?)?;
    bench.keep("junit.xml", junit::faults(report)?)?;
    output::write(&match args.format {
        FaultsFormat::Text if report.baseline == Verdict::Broken => text::run(&baseline(&bench, &matrix)),
        FaultsFormat::Text => text::faults(report, &differences),
        FaultsFormat::Json => json::document(report)?,
        FaultsFormat::Junit => junit::faults(report)?,
    })?;
    let golden = if differences.is_empty() { Exit::Held } else { Exit::Broken };
    Ok(report.exit().worst(golden).worst(output::complain(&bench.refused(&args.bench.filters))))
}

/// Runs the lab over `scenarios`.
pub fn matrix(
    bench: &Bench,
    device: &str,
    scenarios: &[Scenario],
    random_plans: u64,
    only: Option<&str>,
) -> Result<Matrix, Box<dyn std::error::Error>> {
    // Found once: a program that is replaced while it runs is still found under its first name.
    let clean = reference(device, None)?;
    let faulty = |fault: &str| clean.with_arguments(&["--fault", fault]);
    let faults: usize = scenarios.iter().map(|scenario| scenario.faults.len()).sum();
    let length = only.map_or(faults, |_| 1) + scenarios.len();
    let progress = Progress::new(length as u64);
    let lab = Lab { suite: bench.suite(&progress), faulty: &faulty, random_plans, only };
    Ok(lab.run(scenarios)?)
}

/// The chosen scenarios; only the one fault's where one is chosen.
fn with_faults(
    bench: &Bench,
    asked: &BenchArgs,
    fault: Option<&str>,
) -> Result<Vec<Scenario>, Box<dyn std::error::Error>> {
    let mut scenarios = bench.scenarios(&asked.filters, asked.partition, None)?;
    if let Some(fault) = fault {
        scenarios.retain(|scenario| scenario.faults.iter().any(|it| it.id == fault));
        if scenarios.is_empty() {
            let known = bench.catalogue.faults().map(|(_, it)| it.id.as_str());
            let hint = nearest::hint(fault, known);
            return Err(BenchError::Fault { name: fault.to_owned(), hint }.into());
        }
    }
    Ok(scenarios)
}

/// The report of a baseline that is broken.
fn baseline(bench: &Bench, matrix: &Matrix) -> RunReport {
    RunReport::new(
        bench.description.trainer.clone(),
        bench.description.contract.clone(),
        matrix.baseline.clone(),
    )
}
