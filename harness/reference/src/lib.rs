//! The burn reference trainer of traintrue, and the faults that are planted in it.
//!
//! burn is named in this crate alone, and generic over its backends only inside: from outside a run has a plan, a device
//! and somewhere to write its trace.

mod adapters;
mod checkpoint;
mod data;
mod device;
mod digest;
mod engine;
mod error;
mod evaluation;
mod faults;
mod model;
mod optimizer;
mod parts;
mod probe;
mod recorder;
mod resume;
mod rng;
mod schedule;
mod state;
mod trainer;
mod window;

use std::io::Write;

use traintrue::contract::{Contract, Description};
use traintrue::plan::{Plan, SCHEMA};

pub use checkpoint::{CheckpointError, DEATH_STATUS};
pub use device::{Device, DeviceError};
pub use error::TrainError;
pub use model::SizeError;
pub use recorder::Meter;

use checkpoint::{Disk, Dying, Files, Store};
use engine::Engine;
use parts::Parts;
use recorder::Recorder;
use trainer::Trainer;

/// One run of the reference trainer.
pub struct TrainRequest<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// Where to compute.
    pub device: Device,
    /// A fault to plant, by id.
    pub fault: Option<&'a str>,
    /// A death of the file layer.
    pub death: Option<Death>,
    /// What measures memory.
    pub meter: &'a dyn Meter,
}

/// A death of the file layer, and of the process with it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Death {
    /// The file operation, counted from 1, that it comes before.
    pub before_operation: u64,
    /// Whether what was not synced is lost.
    pub loses_unsynced: bool,
}

/// The trainer's name and version.
pub fn trainer() -> String {
    format!("traintrue-reference {}", env!("CARGO_PKG_VERSION"))
}

/// The trainer's answer to `describe`.
pub fn describe() -> Description {
    let capabilities = [
        "resume",
        "evaluation",
        "adapters",
        "heads",
        "probes",
        "checkpointing",
        "cache",
        "world",
        "contract",
        "memory",
        "file-faults",
        "weights",
    ];
    Description {
        schema: SCHEMA,
        trainer: trainer(),
        capabilities: capabilities.map(str::to_owned).to_vec(),
        contract: Contract::default(),
    }
}

/// The ids of all faults that can be planted.
pub fn faults() -> Vec<&'static str> {
    faults::table::<engine::Cpu>().into_iter().map(|(id, _)| id).collect()
}

/// Whether a run can begin: before anything is written. Fails where the device, the plan or the fault cannot be used.
pub fn check(request: &TrainRequest) -> Result<(), TrainError> {
    request.device.probe()?;
    model::Size::named(&request.plan.model.size)?;
    if request.plan.train.heads.len() > 1 {
        let problem = format!("this trainer has at most one head, found {}", request.plan.train.heads.len());
        return Err(TrainError::Unsupported { field: "train.heads", problem });
    }
    planted::<engine::Cpu>(request.fault).map(|_| ())
}

/// Runs a plan and writes its trace. The writer is no type parameter, so that the loop is compiled, and optimised, in this
/// crate. Fails as [`check`] does, and where a checkpoint cannot be used.
pub fn train(request: &TrainRequest, trace: &mut dyn Write) -> Result<(), TrainError> {
    check(request)?;
    let recomputes = planted::<engine::Cpu>(request.fault)?.recomputes;
    match (request.device, recomputes(&request.plan.train)) {
        (Device::Ndarray, false) => train_on::<engine::Cpu>(request, trace, Default::default()),
        (Device::Ndarray, true) => train_on::<engine::CpuRecomputing>(request, trace, Default::default()),
        #[cfg(feature = "cuda")]
        (Device::Cuda(index), false) => {
            train_on::<engine::Gpu>(request, trace, burn_cuda::CudaDevice::new(index))
        }
        #[cfg(feature = "cuda")]
        (Device::Cuda(index), true) => {
            train_on::<engine::GpuRecomputing>(request, trace, burn_cuda::CudaDevice::new(index))
        }
        #[cfg(not(feature = "cuda"))]
        (device @ Device::Cuda(_), _) => Err(DeviceError::NotBuilt(device).into()),
    }
}

fn planted<E: Engine>(fault: Option<&str>) -> Result<Parts<E>, TrainError> {
    let mut parts = Parts::textbook();
    if let Some(wanted) = fault {
        let table = faults::table::<E>();
        let (_, swap) = table
            .into_iter()
            .find(|(id, _)| *id == wanted)
            .ok_or_else(|| TrainError::UnknownFault(wanted.to_owned()))?;
        swap(&mut parts);
    }
    Ok(parts)
}

fn train_on<E: Engine>(
    request: &TrainRequest,
    trace: &mut dyn Write,
    device: E::Device,
) -> Result<(), TrainError> {
    let plan = request.plan;
    let rows_per_sample = if plan.train.heads.is_empty() { 1 } else { 3 };
    let contract = plan.contract.over(Contract { rows_per_sample, ..Contract::default() });
    let parts = planted::<E>(request.fault)?;
    let files: Box<dyn Files> = match request.death {
        None => Box::new(Disk::default()),
        Some(death) => Box::new(Dying::new(death.before_operation, death.loses_unsynced)),
    };
    let store = Store { parts: parts.store, files };
    let mut recorder = Recorder::new(trace, plan, request.meter);
    recorder.run(&trainer(), &request.device.to_string(), &contract)?;
    Trainer::new(plan, contract, parts, device, store, recorder)?.train()
}
