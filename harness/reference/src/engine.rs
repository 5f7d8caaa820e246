//! The burn backends that the trainer is compiled for. The only file that names one.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::{BalancedCheckpointing, NoCheckpointing};
use burn::tensor::backend::AutodiffBackend;
use burn_ndarray::NdArray;

/// An autodiff backend that says whether it recomputes activations in the backward pass.
pub trait Engine: AutodiffBackend {
    /// True where activations are recomputed (burn's balanced strategy).
    const CHECKPOINTING: bool;
}

/// The backend beneath: what parameters, gradients and moments live on, where nothing is tracked.
pub type Inner<E> = <E as AutodiffBackend>::InnerBackend;

/// The CPU, activations kept.
pub type Cpu = Autodiff<NdArray<f32, i64>, NoCheckpointing>;
/// The CPU, activations recomputed.
pub type CpuRecomputing = Autodiff<NdArray<f32, i64>, BalancedCheckpointing>;

impl Engine for Cpu {
    const CHECKPOINTING: bool = false;
}
impl Engine for CpuRecomputing {
    const CHECKPOINTING: bool = true;
}

/// An NVIDIA GPU, activations kept.
#[cfg(feature = "cuda")]
pub type Gpu = Autodiff<burn_cuda::Cuda<f32, i32>, NoCheckpointing>;
/// An NVIDIA GPU, activations recomputed.
#[cfg(feature = "cuda")]
pub type GpuRecomputing = Autodiff<burn_cuda::Cuda<f32, i32>, BalancedCheckpointing>;

#[cfg(feature = "cuda")]
impl Engine for Gpu {
    const CHECKPOINTING: bool = false;
}
#[cfg(feature = "cuda")]
impl Engine for GpuRecomputing {
    const CHECKPOINTING: bool = true;
}
