//! GPUs of any vendor, and Mesa's software Vulkan, through burn-wgpu.

use burn::backend::Autodiff;
use burn::backend::autodiff::checkpoint::strategy::{BalancedCheckpointing, NoCheckpointing};
use burn_wgpu::{Wgpu, WgpuRuntime};

use super::gpu::on_a_gpu;

/// An adapter of wgpu, activations kept.
pub type OnWgpu = Autodiff<Wgpu<f32, i32>, NoCheckpointing>;
/// An adapter of wgpu, activations recomputed.
pub type OnWgpuRecomputing = Autodiff<Wgpu<f32, i32>, BalancedCheckpointing>;

// wgpu does not count the bytes of a process.
on_a_gpu!(WgpuRuntime, OnWgpu, OnWgpuRecomputing, None);
