//! The burn backends that the trainer is compiled for. Only this file and its folder name one.

#[cfg(feature = "cuda")]
mod cuda;
#[cfg(any(feature = "cuda", feature = "wgpu"))]
mod gpu;
#[cfg(feature = "wgpu")]
mod wgpu;

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::{BalancedCheckpointing, NoCheckpointing};
use burn::tensor::backend::AutodiffBackend;
use burn_flex::Flex;
use burn_ndarray::NdArray;
use traintrue_protocol::lanes::{Lanes, heap};

#[cfg(feature = "cuda")]
pub use cuda::{OnCuda, OnCudaRecomputing};
#[cfg(feature = "wgpu")]
pub use wgpu::{OnWgpu, OnWgpuRecomputing};

/// An autodiff backend, with what the trainer asks of it and of its device.
pub trait Engine: AutodiffBackend {
    /// True where activations are recomputed (burn's balanced strategy).
    const CHECKPOINTING: bool;
    /// True where the estimator knows what the backend's operations keep.
    const ESTIMATED: bool;

    /// Waits for the device, and reads the lanes of its own memory; none for the CPU, whose memory is the heap. Call it on
    /// the training thread: cubecl has a memory pool per stream, and a stream per thread.
    fn lanes(device: &Self::Device) -> Lanes;

    /// The bytes that training holds on the device; none where they are not counted.
    fn held_bytes(device: &Self::Device) -> Option<u64>;

    /// The bytes of the largest tensor that the device can hold; none where only its memory limits it.
    fn largest_bytes(device: &Self::Device) -> Option<u64>;

    /// Waits until the device has done all its work. Fails where that work failed, and from then on always.
    fn settle(device: &Self::Device) -> Result<(), DeviceFault>;

    /// Does `work`. Fails where it could not go on because the device had failed.
    fn guarded<T>(device: &Self::Device, work: impl FnOnce() -> T) -> Result<T, DeviceFault>;

    /// Returns unused memory of the pool to the device.
    fn release_unused(device: &Self::Device);
}

/// A failure of a device.
#[cfg_attr(
    not(any(feature = "cuda", feature = "wgpu")),
    expect(dead_code, reason = "the CPU's memory is the heap's, and its faults are panics")
)]
#[derive(Clone, Debug)]
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

/// The CPU through burn-flex, activations kept.
pub type OnFlex = Autodiff<Flex, NoCheckpointing>;
/// The CPU through burn-flex, activations recomputed.
pub type OnFlexRecomputing = Autodiff<Flex, BalancedCheckpointing>;

/// Implements [`Engine`] for a backend whose tensors are on the process's heap.
macro_rules! on_the_heap {
    ($engine:ty, checkpointing $checkpointing:literal, estimated $estimated:literal) => {
        impl Engine for $engine {
            const CHECKPOINTING: bool = $checkpointing;
            const ESTIMATED: bool = $estimated;

            fn lanes(_device: &Self::Device) -> Lanes {
                Lanes::new()
            }
            fn held_bytes(_device: &Self::Device) -> Option<u64> {
                heap::now().map(|heap| heap.bytes)
            }
            fn largest_bytes(_device: &Self::Device) -> Option<u64> {
                None
            }
            fn settle(_device: &Self::Device) -> Result<(), DeviceFault> {
                Ok(())
            }
            fn guarded<T>(_device: &Self::Device, work: impl FnOnce() -> T) -> Result<T, DeviceFault> {
                Ok(work())
            }
            fn release_unused(_device: &Self::Device) {}
        }
    };
}

on_the_heap!(Cpu, checkpointing false, estimated true);
on_the_heap!(CpuRecomputing, checkpointing true, estimated true);
on_the_heap!(OnFlex, checkpointing false, estimated false);
on_the_heap!(OnFlexRecomputing, checkpointing true, estimated false);
