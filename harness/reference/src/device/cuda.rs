//! NVIDIA GPUs, as their driver tells of them.

use cudarc::driver::{CudaContext, result};

use super::{Device, DeviceError, quietly};

pub(super) fn probe(device: Device, index: usize) -> Result<(), DeviceError> {
    let driver = |error: result::DriverError| DeviceError::Driver { device, reason: format!("{error:?}") };
    quietly(result::init).ok_or(DeviceError::NoDriver(device))?.map_err(driver)?;
    let count = usize::try_from(result::device::get_count().map_err(driver)?).unwrap_or(0);
    if index >= count { Err(DeviceError::NoSuchGpu { device, count }) } else { Ok(()) }
}

pub(super) fn free_bytes(device: Device, index: usize) -> Result<u64, DeviceError> {
    let free = CudaContext::new(index).and_then(|card| card.mem_get_info());
    free.map(|(free, _)| free as u64)
        .map_err(|error| DeviceError::Driver { device, reason: format!("{error:?}") })
}
