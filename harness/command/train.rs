//! `traintrue train`: the reference trainer, speaking the trainer's side: a plan in, a trace out, one process a run.

use std::fs::File;
use std::io::{self, Read, Write};
use std::path::PathBuf;

use clap::Args;
use traintrue::exit::Exit;
use traintrue::plan::{Plan, PlanError};
use traintrue_reference::{Death, Device, TrainRequest};

use crate::Done;
use crate::memory::Heap;

/// A longer plan is refused: it is held in memory.
const PLAN_LIMIT_BYTES: u64 = 1 << 30;

#[derive(Args, Debug)]
pub struct TrainArgs {
    /// The plan; standard input where it is not given.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// ndarray, or cuda:0.
    #[arg(long, default_value = "ndarray")]
    device: String,
    /// Plant one fault.
    #[arg(long, value_name = "ID")]
    fault: Option<String>,
}

/// A plan or a trace file that cannot be used.
#[derive(Debug, thiserror::Error)]
enum TrainIoError {
    #[error("{path}: cannot read the plan: {source}")]
    Read { path: String, source: io::Error },
    #[error("{path}: the plan is longer than {PLAN_LIMIT_BYTES} bytes")]
    TooLong { path: String },
    #[error("{path}: {source}")]
    Plan { path: String, source: PlanError },
    #[error("{path}: cannot write the trace: {source}", path = .path.display())]
    Trace { path: PathBuf, source: io::Error },
    #[error("{name}: {value:?}, expected the number of a file operation, from 1")]
    Death { name: &'static str, value: String },
}

pub fn train(args: &TrainArgs) -> Done {
    let from = shown(args.plan.as_ref());
    let plan = Plan::parse(&read(args.plan.as_ref())?)
        .map_err(|source| TrainIoError::Plan { path: from, source })?;
    let request = TrainRequest {
        plan: &plan,
        device: args.device.parse::<Device>()?,
        fault: args.fault.as_deref(),
        death: death()?,
        meter: &Heap,
    };
    match &plan.trace {
        None => traintrue_reference::train(&request, &mut io::stdout().lock())?,
        Some(path) => {
            // A run that cannot begin leaves a trace that is there as it is.
            traintrue_reference::check(&request)?;
            let open = File::create(path);
            let mut file = open.map_err(|source| TrainIoError::Trace { path: path.clone(), source })?;
            traintrue_reference::train(&request, &mut file)?;
            file.flush()?;
        }
    }
    Ok(Exit::Held)
}

/// What the plan's source is called in a message.
fn shown(path: Option<&PathBuf>) -> String {
    path.map_or_else(|| "standard input".to_owned(), |path| path.display().to_string())
}

fn read(path: Option<&PathBuf>) -> Result<String, TrainIoError> {
    let shown = shown(path);
    let from: io::Result<Box<dyn Read>> = match path {
        None => Ok(Box::new(io::stdin().lock())),
        Some(path) => File::open(path).map(|file| Box::new(file) as Box<dyn Read>),
    };
    let mut text = String::new();
    let read = from.and_then(|from| from.take(PLAN_LIMIT_BYTES + 1).read_to_string(&mut text));
    match read {
        Err(source) => Err(TrainIoError::Read { path: shown, source }),
        Ok(bytes) if bytes as u64 > PLAN_LIMIT_BYTES => Err(TrainIoError::TooLong { path: shown }),
        Ok(_) => Ok(text),
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
