//! What training may hold where it computes, and the moment at which it asks for more.

use crate::engine::{DeviceFault, Engine};
use crate::error::TrainError;

/// Memory ran out.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{device} has no room for {requested_bytes} B{}", .budget_bytes.map(|it| format!(": {it} B may be held")).unwrap_or_default())]
pub struct OutOfMemory {
    /// Where.
    pub device: String,
    /// What training would hold; or the one allocation that failed.
    pub requested_bytes: u64,
    /// What it may hold, where the plan limits it.
    pub budget_bytes: Option<u64>,
}

/// A budget on what a run holds beyond what its process held before it.
#[derive(Debug)]
pub struct Allowance {
    device: String,
    budget_bytes: Option<u64>,
    began_bytes: u64,
}

impl Allowance {
    /// An allowance from now on.
    pub fn from_now<E: Engine>(name: String, budget_bytes: Option<u64>, device: &E::Device) -> Self {
        Self { device: name, budget_bytes, began_bytes: E::held_bytes(device).unwrap_or(0) }
    }

    /// Waits for the device. Fails where it ran out of memory, and where more is held than may be.
    pub fn check<E: Engine>(&self, device: &E::Device) -> Result<(), TrainError> {
        let settled = E::settle(device);
        let held = || E::held_bytes(device).unwrap_or(0).saturating_sub(self.began_bytes);
        let requested_bytes = match settled {
            Err(DeviceFault::Other(reason)) => return Err(TrainError::DeviceFault(reason)),
            Err(DeviceFault::OutOfMemory { requested_bytes }) => requested_bytes.unwrap_or_else(held),
            Ok(()) if self.budget_bytes.is_some_and(|budget| held() > budget) => held(),
            Ok(()) => return Ok(()),
        };
        let (device, budget_bytes) = (self.device.clone(), self.budget_bytes);
        Err(OutOfMemory { device, requested_bytes, budget_bytes }.into())
    }
}
