//! The burn backends that the trainer is compiled for. Beside `engine/gpu.rs` the only file that names one.

#[cfg(feature = "cuda")]
mod gpu;

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::{BalancedCheckpointing, NoCheckpointing};
use burn::tensor::backend::AutodiffBackend;
use burn_ndarray::NdArray;
use traintrue_protocol::lanes::{Lanes, heap};

#[cfg(feature = "cuda")]
pub use gpu::{Gpu, GpuRecomputing};

/// An autodiff backend that says whether it recomputes activations in the backward pass, and what its device holds.
pub trait Engine: AutodiffBackend {
    /// True where activations are recomputed (burn's balanced strategy).
    const CHECKPOINTING: bool;
    /// True where tensors are on the process's heap.
    const ON_HEAP: bool;

    /// What the device's own memory holds, after all that was asked of it is done; nothing for the CPU, whose memory is the
    /// heap. Read on the training thread: a GPU's memory is kept by stream, and a thread is one.
    fn lanes(device: &Self::Device) -> Lanes;

    /// What training holds where it computes, in bytes; none where nobody counts.
    fn held_bytes(device: &Self::Device) -> Option<u64>;

    /// Waits until all that was asked of the device is done. Fails where it could not be.
    fn settle(device: &Self::Device) -> Result<(), DeviceFault>;

    /// Gives back to the device what its pool holds and nobody uses.
    fn release_unused(device: &Self::Device);
}

/// What went wrong on a device, by its type.
#[cfg_attr(
    not(feature = "cuda"),
    expect(dead_code, reason = "the CPU's memory is the heap's, and its faults are panics")
)]
#[derive(Debug)]
pub enum DeviceFault {
    /// More was asked for than there is.
    OutOfMemory {
        /// By one allocation, where the driver says so.
        requested_bytes: Option<u64>,
    },
    /// Anything else, in the driver's words.
    Other(String),
}

/// The backend beneath: what parameters, gradients and moments live on, where nothing is tracked.
pub type Inner<E> = <E as AutodiffBackend>::InnerBackend;

/// The CPU, activations kept.
pub type Cpu = Autodiff<NdArray<f32, i64>, NoCheckpointing>;
/// The CPU, activations recomputed.
pub type CpuRecomputing = Autodiff<NdArray<f32, i64>, BalancedCheckpointing>;

/// The same device under both strategies.
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
