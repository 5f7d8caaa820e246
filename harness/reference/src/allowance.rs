//! The budget of bytes that training may hold on its device, and the error when training needs more.

use crate::engine::{DeviceFault, Engine};

/// The device has no memory left, cannot hold one of the tensors, or training holds more than its budget.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{device} has no room for {requested_bytes} B{}", .budget_bytes.map(|it| format!(": {it} B may be held")).unwrap_or_default())]
pub struct OutOfMemory {
    /// The device's name.
    pub device: String,
    /// The bytes that training would hold; or the size of the one tensor that the device cannot hold.
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
    /// The largest tensor that the device can hold, where it says so.
    largest_bytes: Option<u64>,
    began_bytes: u64,
}

impl Allowance {
    /// A budget that counts from the bytes that are held now.
    pub fn from_now<E: Engine>(name: String, budget_bytes: Option<u64>, device: &E::Device) -> Self {
        let began_bytes = E::held_bytes(device).unwrap_or(0);
        Self { device: name, budget_bytes, largest_bytes: E::largest_bytes(device), began_bytes }
    }

    /// Waits for the device. Fails where the device ran out of memory, and where training holds more than its budget.
    pub fn check<E: Engine>(&self, device: &E::Device) -> Result<(), AllowanceError> {
        // A GPU reports a failed allocation only when it is waited for.
        self.after::<E, _>(E::settle(device), device)?;
        let held = self.held::<E>(device);
        if self.budget_bytes.is_some_and(|budget| held > budget) { Err(self.shortage(held)) } else { Ok(()) }
    }

    /// Fails where a tensor of these bytes is larger than any that the device can hold. Asked before it is made: the
    /// device itself would fail later, and lose what it holds.
    pub fn takes(&self, bytes: u64) -> Result<(), AllowanceError> {
        if self.largest_bytes.is_some_and(|largest| bytes > largest) {
            Err(self.shortage(bytes))
        } else {
            Ok(())
        }
    }

    /// The result of work on the device, where the device did not fail at it.
    pub fn after<E: Engine, T>(
        &self,
        work: Result<T, DeviceFault>,
        device: &E::Device,
    ) -> Result<T, AllowanceError> {
        work.map_err(|fault| match fault {
            DeviceFault::OutOfMemory { requested_bytes } => {
                self.shortage(requested_bytes.unwrap_or_else(|| self.held::<E>(device)))
            }
            DeviceFault::Other(reason) => AllowanceError::Device(reason),
        })
    }

    fn held<E: Engine>(&self, device: &E::Device) -> u64 {
        E::held_bytes(device).unwrap_or(0).saturating_sub(self.began_bytes)
    }

    fn shortage(&self, requested_bytes: u64) -> AllowanceError {
        let (device, budget_bytes) = (self.device.clone(), self.budget_bytes);
        OutOfMemory { device, requested_bytes, budget_bytes }.into()
    }
}
