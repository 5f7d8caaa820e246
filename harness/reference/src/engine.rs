//! The burn backends that the trainer is compiled for. Only this file and `engine/gpu.rs` name one.

#[cfg(feature = "cuda")]
mod gpu;

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::{BalancedCheckpointing, NoCheckpointing};
use burn::tensor::backend::AutodiffBackend;
use burn_ndarray::NdArray;
use traintrue_protocol::lanes::{Lanes, heap};

#[cfg(feature = "cuda")]
pub use gpu::{Gpu, GpuRecomputing};

/// An autodiff backend, with what the trainer asks of it and of its device.
pub trait Engine: AutodiffBackend {
    /// True where activations are recomputed (burn's balanced strategy).
    const CHECKPOINTING: bool;
    /// True where tensors are on the process's heap.
    const ON_HEAP: bool;

    /// Waits for the device, and reads the lanes of its own memory; none for the CPU, whose memory is the heap. Call it on
    /// the training thread: cubecl has a memory pool per stream, and a stream per thread.
    fn lanes(device: &Self::Device) -> Lanes;

    /// The bytes that training holds on the device; none where they are not counted.
    fn held_bytes(device: &Self::Device) -> Option<u64>;

    /// Waits until the device has done all its work. Fails where the work failed.
    fn settle(device: &Self::Device) -> Result<(), DeviceFault>;

    /// Returns unused memory of the pool to the device.
    fn release_unused(device: &Self::Device);
}

/// A failure of a device.
#[cfg_attr(
    not(feature = "cuda"),
    expect(dead_code, reason = "the CPU's memory is the heap's, and its faults are panics")
)]
#[derive(Debug)]
pub enum DeviceFault {
    /// An allocation failed.
    OutOfMemory {
        /// The size of the allocation, where the driver says it.
        requested_bytes: Option<u64>,
    },
    /// Anything else, in the driver's words.
    Other(String),
}

/// The backend without autodiff: parameters, gradients and moments live on it.
pub type Inner<E> = <E as AutodiffBackend>::InnerBackend;

/// The CPU, activations kept.
pub type Cpu = Autodiff<NdArray<f32, i64>, NoCheckpointing>;
/// The CPU, activations recomputed.
pub type CpuRecomputing = Autodiff<NdArray<f32, i64>, BalancedCheckpointing>;

/// Implements [`Engine`] for both checkpointing strategies of a device.
macro_rules! on_the_cpu {
    ($engine:ty, $checkpointing:literal) => {
        impl Engine for $engine {
            const CHECKPOINTING: bool = $checkpointing;
            const ON_HEAP: bool = true;

            fn lanes(_device: &Self::Device) -> Lanes {
                Lanes::new()
            }
            fn held_bytes(_device: &Self::Device) -> Option<u64> {
                heap::now().map(|heap| heap.bytes)
            }
            fn settle(_device: &Self::Device) -> Result<(), DeviceFault> {
                Ok(())
            }
            fn release_unused(_device: &Self::Device) {}
        }
    };
}

on_the_cpu!(Cpu, false);
on_the_cpu!(CpuRecomputing, true);
