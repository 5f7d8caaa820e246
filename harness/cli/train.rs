//! `traintrue train`: the reference trainer, speaking the trainer's side: a plan in, a trace out, one process a run.

use std::fs::File;
use std::io::{self, Write};
use std::path::PathBuf;

use clap::Args;
use traintrue_protocol::Plan;
use traintrue_protocol::exit::Exit;
use traintrue_reference::{Death, Device, TrainError, TrainRequest};

use crate::Done;

#[derive(Args, Debug)]
pub struct TrainArgs {
    /// The plan; standard input where it is not given.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// ndarray, or cuda:0.
    #[arg(long, default_value = "ndarray")]
    device: String,
    /// Plant a fault; may be given more than once.
    #[arg(long, value_name = "ID")]
    fault: Vec<String>,
}

/// A trace file or a death that cannot be used.
#[derive(Debug, thiserror::Error)]
enum TrainIoError {
    #[error("{path}: cannot write the trace: {source}", path = .path.display())]
    Trace { path: PathBuf, source: io::Error },
    #[error("{name}: {value:?}, expected the number of a file operation, from 1")]
    Death { name: &'static str, value: String },
}

pub fn train(args: &TrainArgs) -> Done {
    let plan = Plan::read(args.plan.as_deref())?;
    let request = TrainRequest {
        plan: &plan,
        device: args.device.parse::<Device>()?,
        faults: &args.fault,
        death: death()?,
    };
    let trained = match &plan.trace {
        None => traintrue_reference::train(&request, &mut io::stdout().lock()),
        Some(path) => {
            // A run that cannot begin leaves a trace that is there as it is.
            traintrue_reference::check(&request)?;
            let open = File::create(path);
            let mut file = open.map_err(|source| TrainIoError::Trace { path: path.clone(), source })?;
            let trained = traintrue_reference::train(&request, &mut file);
            file.flush()?;
            trained
        }
    };
    match trained {
        // The request was in order, and the run is not: told by its type, as everywhere.
        Err(TrainError::OutOfMemory(shortage)) => {
            eprintln!("traintrue: out of memory: {shortage}");
            Ok(Exit::Broken)
        }
        other => Ok(other.map(|()| Exit::Held)?),
    }
}

/// The death that the harness asks for; it is in the environment, for the plan is that of a process that lives.
fn death() -> Result<Option<Death>, TrainIoError> {
    let name = "TRAINTRUE_DIE_BEFORE_OPERATION";
    let Some(value) = std::env::var_os(name) else {
        return Ok(None);
    };
    let value = value.to_string_lossy().into_owned();
    let Some(before_operation) = value.parse().ok().filter(|&number: &u64| number > 0) else {
        return Err(TrainIoError::Death { name, value });
    };
    let loses_unsynced = std::env::var_os("TRAINTRUE_LOSE_UNSYNCED").is_some();
    Ok(Some(Death { before_operation, loses_unsynced }))
}
