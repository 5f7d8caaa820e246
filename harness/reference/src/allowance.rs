//! The budget of bytes that training may hold on its device, and the error when training needs more.

use crate::engine::{DeviceFault, Engine};

/// The device has no memory left, or training holds more than its budget.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{device} has no room for {requested_bytes} B{}", .budget_bytes.map(|it| format!(": {it} B may be held")).unwrap_or_default())]
pub struct OutOfMemory {
    /// The device's name.
    pub device: String,
    /// The bytes that training would hold; or the size of the one allocation that failed.
    pub requested_bytes: u64,
    /// The bytes that it may hold, where the plan limits them.
    pub budget_bytes: Option<u64>,
}

/// A device that cannot go on.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum AllowanceError {
    #[error(transparent)]
    OutOfMemory(#[from] OutOfMemory),
    #[error("the device failed: {0}")]
    Device(String),
}

/// A budget for what training holds beyond what its process held before.
#[derive(Debug)]
pub struct Allowance {
    device: String,
    budget_bytes: Option<u64>,
    began_bytes: u64,
}

impl Allowance {
    /// A budget that counts from the bytes that are held now.
    pub fn from_now<E: Engine>(name: String, budget_bytes: Option<u64>, device: &E::Device) -> Self {
        Self { device: name, budget_bytes, began_bytes: E::held_bytes(device).unwrap_or(0) }
    }

    /// Waits for the device. Fails where the device ran out of memory, and where training holds more than its budget.
    pub fn check<E: Engine>(&self, device: &E::Device) -> Result<(), AllowanceError> {
        // A GPU reports a failed allocation only when it is waited for.
        let settled = E::settle(device);
        let held = || E::held_bytes(device).unwrap_or(0).saturating_sub(self.began_bytes);
        let requested_bytes = match settled {
            Err(DeviceFault::Other(reason)) => return Err(AllowanceError::Device(reason)),
            Err(DeviceFault::OutOfMemory { requested_bytes }) => requested_bytes.unwrap_or_else(held),
            Ok(()) if self.budget_bytes.is_some_and(|budget| held() > budget) => held(),
            Ok(()) => return Ok(()),
        };
        let (device, budget_bytes) = (self.device.clone(), self.budget_bytes);
        Err(OutOfMemory { device, requested_bytes, budget_bytes }.into())
    }
}
