//! The burn reference trainer of traintrue, and the faults that are planted in it.
//!
//! Only this crate of the workspace names burn, and its public items do not: [`Reference`] is a `Trainer` of the protocol.

#![forbid(unsafe_code)]

mod adapters;
mod allowance;
mod breaker;
mod callback;
mod checkpoint;
mod cycle;
mod data;
mod device;
mod engine;
mod error;
mod evaluation;
mod events;
mod failure;
mod faults;
mod graph;
mod meter;
mod model;
mod models;
mod operations;
mod optimizer;
mod parts;
mod placement;
mod prediction;
mod probe;
#[cfg(test)]
mod pytorch;
mod ranks;
mod reference;
mod resume;
mod rng;
mod schedule;
mod state;
mod tensor_steps;
mod told;
mod trainer;
mod turn;
mod unchanged;
mod window;

use traintrue_protocol::contract::Description;

pub use allowance::{AllowanceError, OutOfMemory};
pub use checkpoint::{CheckpointError, DEATH_STATUS};
pub use device::{Device, DeviceError};
pub use error::TrainError;
pub use model::SizeError;
pub use placement::{NoDevice, PlacementError};
pub use reference::{Death, Reference};

/// The trainer's answer to `describe`.
pub fn describe() -> Description {
    traintrue_protocol::trainer::describe(&Reference::default())
}

/// The ids of all faults that can be planted.
pub fn faults() -> Vec<&'static str> {
    faults::table::<engine::Cpu>().into_iter().map(|(id, _)| id).collect()
}

/// The ids of the controls, which can be planted and are no faults: they look like a leak, and no verdict may name them.
pub fn controls() -> Vec<&'static str> {
    faults::controls::<engine::Cpu>().into_iter().map(|(id, _)| id).collect()
}
