//! `traintrue accept`: the schemas, the kill matrix or the memory of the clean trainer become the golden ones.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use traintrue::kill_matrix::accept as write;
use traintrue::report::text;
use traintrue::schema;
use traintrue_memory::gate::{Gate, Held, Limits};
use traintrue_memory::series::{Recording, read_trace};
use traintrue_protocol::exit::Exit;

use crate::bench::{BenchArgs, Request};
use crate::faults::{GOLDEN, matrix};
use crate::keep::KeepError;
use crate::progress::Progress;
use crate::{Done, output};

/// What can be accepted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Golden {
    /// The published schemas.
    Schemas,
    /// The kill matrix.
    Matrix,
    /// The memory baselines.
    Memory,
}

#[derive(Args, Debug)]
pub struct AcceptArgs {
    /// What to accept; everything where nothing is named.
    what: Vec<Golden>,
    /// The file of the kill matrix.
    #[arg(long, value_name = "FILE", default_value = GOLDEN)]
    golden: PathBuf,
    /// The folder of the published schemas.
    #[arg(long, value_name = "DIR", default_value = "golden/schema")]
    schemas: PathBuf,
    /// The limits whose baselines are written.
    #[arg(long, value_name = "FILE", default_value = "ci/memory-limits.toml")]
    limits: PathBuf,
    /// The reference trainer's device.
    #[arg(long, default_value = "ndarray")]
    device: String,
}

pub fn accept(args: &AcceptArgs) -> Done {
    let wanted = |golden: &&Golden| args.what.is_empty() || args.what.contains(golden);
    let mut exit = Exit::Held;
    for golden in Golden::value_variants().iter().filter(wanted) {
        exit = exit.worst(match golden {
            Golden::Schemas => schemas(args)?,
            Golden::Matrix => kill_matrix(args)?,
            Golden::Memory => baselines(args)?,
        });
    }
    Ok(exit)
}

fn schemas(args: &AcceptArgs) -> Done {
    schema::accept(&args.schemas)?;
    eprintln!("{}: written", args.schemas.display());
    Ok(Exit::Held)
}

fn kill_matrix(args: &AcceptArgs) -> Done {
    let bench = BenchArgs::on(&args.device).open(&Request::default())?;
    let scenarios = bench.scenarios(&[], None, None)?;
    let matrix = matrix(&bench, &args.device, &scenarios, 0, None)?;
    let exit = matrix.report.exit();
    output::write(&text::faults(&matrix.report, &[]))?;
    // A matrix that nothing was tried for, or that has a hole, is not worth keeping.
    if exit == Exit::Held {
        write(&args.golden, &matrix.report.faults)?;
        eprintln!("{}: written", args.golden.display());
    } else {
        eprintln!("{}: left as it is, for not every fault was caught", args.golden.display());
    }
    Ok(exit)
}

/// Writes what the runs that have limits hold and how they grow, unless one is past its limit.
fn baselines(args: &AcceptArgs) -> Done {
    let limits = Limits::load(&args.limits)?;
    let kept = tempfile::tempdir()?;
    let bench = BenchArgs { report: Some(kept.path().to_owned()), ..BenchArgs::on(&args.device) };
    let bench = bench.open(&Request::default())?;
    let scenarios = bench.scenarios(&limits.scenarios(&args.device), None, None)?;
    let report = {
        let progress = Progress::new(scenarios.len() as u64);
        bench.suite(&progress).run(&scenarios)?
    };
    let traces = report.outcomes.iter().flat_map(|outcome| &outcome.traces);
    let recordings = traces.map(|trace| read_trace(trace, &[])).collect::<Result<Vec<_>, _>>()?;
    let limited = |it: &Recording| it.run.as_ref().is_some_and(|run| limits.of_run(run).next().is_some());
    let recordings: Vec<_> = recordings.into_iter().filter(limited).collect();
    let gate = Gate::of(&recordings, Held { limits: Some(&limits), ..Held::default() });
    let exit = gate.exit();
    if exit == Exit::Held {
        let failed = |source| KeepError::File { path: args.limits.clone(), source };
        std::fs::write(&args.limits, limits.with_baseline(&gate.series)).map_err(failed)?;
        eprintln!("{}: baselines written", args.limits.display());
    } else {
        output::write(&gate.text())?;
        eprintln!("{}: left as it is, for not every lane is within its limits", args.limits.display());
    }
    Ok(exit)
}
