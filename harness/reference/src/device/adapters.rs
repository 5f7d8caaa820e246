//! The adapters that wgpu finds, numbered as this trainer numbers them: 0, 1, 2 over all types.

use burn_wgpu::WgpuDevice;
use burn_wgpu::graphics::{AutoGraphicsApi, GraphicsApi};
use cubecl::future::block_on;
use wgpu::{Adapter, Backends, DeviceType, Instance, InstanceDescriptor};

use super::{Device, DeviceError, quietly};

pub(super) fn probe(device: Device, index: usize) -> Result<(), DeviceError> {
    let adapters = adapters();
    if index < adapters.len() {
        return Ok(());
    }
    let adapters = adapters.into_iter().map(|(name, _)| name).collect();
    Err(DeviceError::NoSuchAdapter { device, adapters })
}

/// The adapter of this number; burn counts within a type. The device must have passed [`Device::probe`]; burn's default
/// takes the place of an adapter that is gone since.
pub fn place(index: usize) -> WgpuDevice {
    adapters().into_iter().nth(index).map(|(_, place)| place).unwrap_or_default()
}

/// Each adapter in words, with the place that burn knows it by. Adapters that burn cannot ask for are left out: those
/// of no type, and processors after the first.
fn adapters() -> Vec<(String, WgpuDevice)> {
    let mut found = Vec::new();
    let [mut discrete, mut integrated, mut shared, mut processors] = [0.., 0.., 0.., 0..];
    for adapter in quietly(of_this_machine).unwrap_or_default() {
        let info = adapter.get_info();
        let (kind, place) = match info.device_type {
            DeviceType::DiscreteGpu => ("discrete GPU", discrete.next().map(WgpuDevice::DiscreteGpu)),
            DeviceType::IntegratedGpu => ("integrated GPU", integrated.next().map(WgpuDevice::IntegratedGpu)),
            DeviceType::VirtualGpu => ("virtual GPU", shared.next().map(WgpuDevice::VirtualGpu)),
            DeviceType::Cpu => {
                ("CPU", processors.next().filter(|&number| number == 0).map(|_| WgpuDevice::Cpu))
            }
            DeviceType::Other => ("", None),
        };
        found.extend(place.map(|place| (format!("{}, {kind}", info.name), place)));
    }
    found
}

fn of_this_machine() -> Vec<Adapter> {
    let backends = Backends::from(AutoGraphicsApi::backend());
    let asked = InstanceDescriptor { backends, ..InstanceDescriptor::new_without_display_handle() };
    block_on(Instance::new(asked).enumerate_adapters(backends))
}
