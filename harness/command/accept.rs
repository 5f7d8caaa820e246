//! `traintrue accept`: the kill matrix as it is now becomes the golden one.

use std::path::PathBuf;

use clap::Args;
use traintrue::exit::Exit;
use traintrue::kill_matrix::accept as write;
use traintrue::report::text;

use crate::Done;
use crate::bench::BenchArgs;
use crate::faults::{GOLDEN, matrix};
use crate::output;

#[derive(Args, Debug)]
pub struct AcceptArgs {
    /// The file to write.
    #[arg(long, value_name = "FILE", default_value = GOLDEN)]
    golden: PathBuf,
    /// The reference trainer's device.
    #[arg(long, default_value = "ndarray")]
    device: String,
}

pub fn accept(args: &AcceptArgs) -> Done {
    let bench = BenchArgs::on(&args.device).open(None, None, None)?;
    let scenarios = bench.scenarios(&[], None)?;
    let matrix = matrix(&bench, &args.device, &scenarios, 0, None)?;
    let exit = Exit::of_faults(&matrix.report);
    output::write(&text::faults(&matrix.report, &[], output::paint()))?;
    // A matrix that nothing was tried for, or that has a hole, is not worth keeping.
    if exit == Exit::Held {
        write(&args.golden, &matrix.report.faults)?;
        eprintln!("{}: written", args.golden.display());
    } else {
        eprintln!("{}: left as it is, for not every fault was caught", args.golden.display());
    }
    Ok(exit)
}
