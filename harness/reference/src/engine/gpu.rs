//! NVIDIA GPUs, and the lanes of cubecl's memory pool on them.

use std::sync::OnceLock;

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::{BalancedCheckpointing, NoCheckpointing};
use burn_cuda::{Cuda, CudaDevice};
use cubecl::Runtime;
use cubecl::client::ComputeClient;
use cubecl::cuda::CudaRuntime;
use cubecl::server::{IoError, LaunchError, ServerError};
use traintrue_protocol::lanes::Lanes;
use traintrue_protocol::lanes::nvidia::Devices;

use super::{DeviceFault, Engine};

/// An NVIDIA GPU, activations kept.
pub type Gpu = Autodiff<Cuda<f32, i32>, NoCheckpointing>;
/// An NVIDIA GPU, activations recomputed.
pub type GpuRecomputing = Autodiff<Cuda<f32, i32>, BalancedCheckpointing>;

/// Implements [`Engine`] for both checkpointing strategies of a device.
macro_rules! on_the_gpu {
    ($engine:ty, $checkpointing:literal) => {
        impl Engine for $engine {
            const CHECKPOINTING: bool = $checkpointing;
            const ON_HEAP: bool = false;

            fn lanes(device: &Self::Device) -> Lanes {
                lanes(device)
            }
            fn held_bytes(device: &Self::Device) -> Option<u64> {
                client(device).memory_usage().ok().map(|usage| usage.bytes_in_use)
            }
            fn settle(device: &Self::Device) -> Result<(), DeviceFault> {
                settle(device)
            }
            fn release_unused(device: &Self::Device) {
                client(device).memory_cleanup();
            }
        }
    };
}

on_the_gpu!(Gpu, false);
on_the_gpu!(GpuRecomputing, true);

fn client(device: &CudaDevice) -> ComputeClient<CudaRuntime> {
    CudaRuntime::client(device)
}

fn settle(device: &CudaDevice) -> Result<(), DeviceFault> {
    cubecl::future::block_on(client(device).sync()).map_err(fault)
}

/// A lane that cannot be read has no value.
fn lanes(device: &CudaDevice) -> Lanes {
    let usage = settle(device).ok().and_then(|()| client(device).memory_usage().ok());
    let lane = |name: &str, figure: Option<u64>| (name.to_owned(), figure);
    Lanes::from([
        lane("device_in_use_bytes", usage.as_ref().map(|it| it.bytes_in_use)),
        lane("device_reserved_bytes", usage.as_ref().map(|it| it.bytes_reserved)),
        lane("device_allocations", usage.as_ref().map(|it| it.number_allocs)),
        lane("device_process_bytes", process_bytes()),
    ])
}

/// The bytes that the driver counts for this process: the pool, and contexts and kernels outside of it.
fn process_bytes() -> Option<u64> {
    static DRIVER: OnceLock<Option<Devices>> = OnceLock::new();
    let driver = DRIVER.get_or_init(Devices::open).as_ref()?;
    driver.process_bytes().get(&std::process::id()).copied()
}

/// Reads the error's variants and never its text: "memory" is also in the text of other errors.
fn fault(error: ServerError) -> DeviceFault {
    match error {
        ServerError::Io(IoError::BufferTooBig { size, .. })
        | ServerError::Launch(LaunchError::IoError(IoError::BufferTooBig { size, .. })) => {
            DeviceFault::OutOfMemory { requested_bytes: Some(size) }
        }
        ServerError::Launch(LaunchError::OutOfMemory { .. }) => {
            DeviceFault::OutOfMemory { requested_bytes: None }
        }
        ServerError::ServerUnhealthy { errors, backtrace } => {
            let faults = errors.iter().cloned().map(fault);
            let shortage = faults.filter(|fault| matches!(fault, DeviceFault::OutOfMemory { .. })).last();
            shortage.unwrap_or_else(|| {
                DeviceFault::Other(ServerError::ServerUnhealthy { errors, backtrace }.to_string())
            })
        }
        other => DeviceFault::Other(other.to_string()),
    }
}
