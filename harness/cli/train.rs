//! `traintrue train`: the reference trainer as a process of its own. It reads a plan and writes a trace.

use std::path::PathBuf;

use clap::Args;
use traintrue_protocol::Plan;
use traintrue_protocol::exit::Exit;
use traintrue_protocol::serve::carry_out;
use traintrue_reference::{AllowanceError, Death, Reference, TrainError};

use crate::Done;

#[derive(Args, Debug)]
pub struct TrainArgs {
    /// The plan; without this option it is read from standard input.
    #[arg(long, value_name = "FILE")]
    plan: Option<PathBuf>,
    /// ndarray, flex, cuda:0 or wgpu:0.
    #[arg(long, default_value = "ndarray")]
    device: String,
    /// Plant a fault; may be given more than once.
    #[arg(long, value_name = "ID")]
    fault: Vec<String>,
}

/// An environment variable that names no file operation.
#[derive(Debug, thiserror::Error)]
#[error("{name}: {value:?}, expected the number of a file operation, from 1")]
struct DeathError {
    name: &'static str,
    value: String,
}

pub fn train(args: &TrainArgs) -> Done {
    let plan = Plan::read(args.plan.as_deref())?;
    let mut trainer = Reference::new(args.device.parse()?, args.fault.clone(), death()?);
    let Err(error) = carry_out(&mut trainer, &plan) else { return Ok(Exit::Held) };
    match error.downcast_ref() {
        // The request was in order, and the run was not.
        Some(TrainError::Allowance(AllowanceError::OutOfMemory(shortage))) => {
            eprintln!("traintrue: out of memory: {shortage}");
            Ok(Exit::Broken)
        }
        _ => Err(error),
    }
}

/// The death that the suite asks for. It is in the environment and not in the plan, because the process that resumes has the
/// same plan and must live.
fn death() -> Result<Option<Death>, DeathError> {
    let name = "TRAINTRUE_DIE_BEFORE_OPERATION";
    let Some(value) = std::env::var_os(name) else {
        return Ok(None);
    };
    let value = value.to_string_lossy().into_owned();
    let Some(before_operation) = value.parse().ok().filter(|&number: &u64| number > 0) else {
        return Err(DeathError { name, value });
    };
    let loses_unsynced = std::env::var_os("TRAINTRUE_LOSE_UNSYNCED").is_some();
    Ok(Some(Death { before_operation, loses_unsynced }))
}
