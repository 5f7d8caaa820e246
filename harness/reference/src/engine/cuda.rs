//! NVIDIA GPUs, through burn-cuda.

use std::sync::OnceLock;

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::{BalancedCheckpointing, NoCheckpointing};
use burn_cuda::Cuda;
use cubecl::cuda::CudaRuntime;
use traintrue_protocol::lanes::nvidia::Devices;

use super::gpu::on_a_gpu;

/// An NVIDIA GPU, activations kept.
pub type OnCuda = Autodiff<Cuda<f32, i32>, NoCheckpointing>;
/// An NVIDIA GPU, activations recomputed.
pub type OnCudaRecomputing = Autodiff<Cuda<f32, i32>, BalancedCheckpointing>;

on_a_gpu!(CudaRuntime, OnCuda, OnCudaRecomputing, process_bytes());

/// The bytes that the driver counts for this process: the pool, and contexts and kernels outside of it.
fn process_bytes() -> Option<u64> {
    static DRIVER: OnceLock<Option<Devices>> = OnceLock::new();
    let driver = DRIVER.get_or_init(Devices::open).as_ref()?;
    driver.process_bytes().get(&std::process::id()).copied()
}
