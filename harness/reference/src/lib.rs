//! The burn reference trainer of traintrue, and the faults that are planted in it.
//!
//! burn is named in this crate alone, and generic over its backends only inside: from outside a run has a plan, a device
//! and somewhere to write its trace.

#![forbid(unsafe_code)]

mod adapters;
mod allowance;
mod breaker;
mod checkpoint;
mod cycle;
mod data;
mod device;
mod engine;
mod error;
mod evaluation;
mod failure;
mod faults;
mod graph;
mod model;
mod observer;
mod optimizer;
mod parts;
mod placement;
mod prediction;
mod probe;
#[cfg(test)]
mod pytorch;
mod recorder;
mod resume;
mod rng;
mod schedule;
mod state;
mod trainer;
mod turn;
mod window;

use std::io::Write;

use traintrue_protocol::contract::{Contract, Description};
use traintrue_protocol::lanes::Lanes;
use traintrue_protocol::plan::{Boundary, Plan, SCHEMA};
use traintrue_protocol::trace::event::EndReason;
use traintrue_protocol::vocabulary::Capability;

pub use allowance::OutOfMemory;
pub use checkpoint::{CheckpointError, DEATH_STATUS};
pub use device::{Device, DeviceError};
pub use error::TrainError;
pub use model::SizeError;
pub use placement::NoDevice;

use allowance::Allowance;
use checkpoint::{Disk, Dying, Files, Store};
use data::{Shard, collate};
use engine::Engine;
use parts::Parts;
use placement::Placed;
use recorder::Recorder;
use trainer::Trainer;
use turn::Turn;

/// One run of the reference trainer.
pub struct TrainRequest<'a> {
    /// What to do.
    pub plan: &'a Plan,
    /// Where to compute.
    pub device: Device,
    /// The faults to plant, by id.
    pub faults: &'a [String],
    /// A death of the file layer.
    pub death: Option<Death>,
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
    Description {
        schema: SCHEMA,
        trainer: trainer(),
        capabilities: Capability::ALL.to_vec(),
        contract: Contract::default(),
    }
}

/// The ids of all faults that can be planted.
pub fn faults() -> Vec<&'static str> {
    faults::table::<engine::Cpu>().into_iter().map(|(id, _)| id).collect()
}

/// The ids of what can be planted and is no fault: it looks like a leak, and must not be called one.
pub fn controls() -> Vec<&'static str> {
    faults::controls::<engine::Cpu>().into_iter().map(|(id, _)| id).collect()
}

/// Whether a run can begin: before anything is written. Fails where the device, the plan or the fault cannot be used.
pub fn check(request: &TrainRequest) -> Result<(), TrainError> {
    // A plan that names devices says what to do where one is not there.
    if request.plan.devices.is_empty() {
        request.device.probe()?;
    }
    model::Size::named(&request.plan.model.size)?;
    if request.plan.train.heads.len() > 1 {
        let problem = format!("this trainer has at most one head, found {}", request.plan.train.heads.len());
        return Err(TrainError::Unsupported { field: "train.heads", problem });
    }
    planted::<engine::Cpu>(request.faults).map(|_| ())
}

/// The collator of a plan, called alone: what a probe of it sees. It makes the micro-batch of an index within the first
/// epoch, drops it, and returns how many samples it had. Fails as [`check`] does.
pub fn collator<'a>(request: &TrainRequest<'a>) -> Result<impl FnMut(u64) -> u64 + 'a, TrainError> {
    check(request)?;
    let parts = planted::<engine::Cpu>(request.faults)?;
    let Plan { data, train, seed, .. } = request.plan;
    let mut shard = Shard::new(parts.order, *seed, data, train);
    Ok(move |index| {
        let index = index % shard.micro_batches;
        let samples = shard.samples(data, 0, index);
        let heads = !train.heads.is_empty();
        collate(&parts.collate, data, &data.samples, &data.padding, samples, heads).counts.samples
    })
}

/// Runs a plan and writes its trace. The writer is no type parameter, so that the loop is compiled, and optimised, in this
/// crate. Only one training runs in a process at a time (burn#5573): a second thread waits here until the first is done.
/// Fails as [`check`] does, and where a checkpoint cannot be used.
pub fn train(request: &TrainRequest, trace: &mut dyn Write) -> Result<(), TrainError> {
    check(request)?;
    let Parts { recomputes, placement, .. } = planted::<engine::Cpu>(request.faults)?;
    let placed = match placement::place(request.plan, request.device, placement) {
        Ok(placed) => placed,
        Err(TrainError::NoDevice(refused)) => return Err(refuse(request, trace, refused)?),
        Err(error) => return Err(error),
    };
    match (placed.device, recomputes(&request.plan.train)) {
        (Device::Ndarray, false) => train_on::<engine::Cpu>(request, trace, placed, Default::default()),
        (Device::Ndarray, true) => {
            train_on::<engine::CpuRecomputing>(request, trace, placed, Default::default())
        }
        #[cfg(feature = "cuda")]
        (Device::Cuda(index), false) => {
            train_on::<engine::Gpu>(request, trace, placed, burn_cuda::CudaDevice::new(index))
        }
        #[cfg(feature = "cuda")]
        (Device::Cuda(index), true) => {
            train_on::<engine::GpuRecomputing>(request, trace, placed, burn_cuda::CudaDevice::new(index))
        }
        #[cfg(not(feature = "cuda"))]
        (device @ Device::Cuda(_), _) => Err(DeviceError::NotBuilt(device).into()),
    }
}

/// The trace of a run for which there is no device: nothing is loaded, and it says why.
fn refuse(
    request: &TrainRequest,
    trace: &mut dyn Write,
    mut refused: NoDevice,
) -> Result<TrainError, TrainError> {
    let mut recorder = Recorder::new(trace, request.plan, Box::new(Lanes::new));
    recorder.run(&trainer(), &request.device.to_string(), &contract(request.plan))?;
    recorder.left(std::mem::take(&mut refused.left))?;
    recorder.end(EndReason::Error, Some(refused.to_string()))?;
    Ok(refused.into())
}

fn contract(plan: &Plan) -> Contract {
    let rows_per_sample = if plan.train.heads.is_empty() { 1 } else { 3 };
    plan.contract.over(Contract { rows_per_sample, ..Contract::default() })
}

fn planted<E: Engine>(wanted: &[String]) -> Result<Parts<E>, TrainError> {
    let mut parts = Parts::textbook();
    let table = [faults::table::<E>(), faults::controls()].concat();
    for wanted in wanted {
        let found = table.iter().find(|(id, _)| id == wanted);
        let (_, swap) = found.ok_or_else(|| TrainError::UnknownFault(wanted.clone()))?;
        swap(&mut parts);
    }
    Ok(parts)
}

fn train_on<E: Engine>(
    request: &TrainRequest,
    trace: &mut dyn Write,
    placed: Placed,
    device: E::Device,
) -> Result<(), TrainError> {
    // Before anything is measured: the heap belongs to the process, and so do burn's graphs.
    let _turn = Turn::take();
    let plan = request.plan;
    let contract = contract(plan);
    let mut parts = planted::<E>(request.faults)?;
    let files: Box<dyn Files> = match request.death {
        None => Box::new(Disk::default()),
        Some(death) => Box::new(Dying::new(death.before_operation, death.loses_unsynced)),
    };
    let store = Store { parts: parts.store, files };
    let name = placed.device.to_string();
    // Memory that is compared to the byte, from epoch to epoch or from model to model, is read when the graph is at rest.
    let at_rest = [Boundary::Epoch, Boundary::Unload].iter().any(|at| plan.sample_memory.contains(at));
    if at_rest {
        graph::settle::<E>(&device);
    }
    let mut recorder = Recorder::new(trace, plan, {
        let device = device.clone();
        Box::new(move || {
            if at_rest {
                graph::collect::<E>(&device);
            }
            E::lanes(&device)
        })
    });
    recorder.run(&trainer(), &name, &contract)?;
    recorder.left(placed.left)?;
    cycle::cycles(plan, &mut parts, &device, &mut recorder)?;
    let allowance = Allowance::from_now::<E>(name, placed.budget_bytes, &device);
    Trainer::new(plan, contract, parts, device, allowance, store, recorder)?.train()
}
