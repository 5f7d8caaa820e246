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

#[cfg(test)]
mod tests {
    use burn::tensor::Tensor;

    use super::super::{DeviceFault, Engine};
    use super::*;
    use crate::device::adapters;

    /// The only test of this process that uses an adapter: it leaves it unusable.
    #[test]
    fn an_allocation_that_fails_is_out_of_memory_and_the_device_stays_failed() {
        let device = adapters::place(0);
        let largest = OnWgpu::largest_bytes(&device).unwrap();
        assert!(OnWgpu::settle(&device).is_ok());
        let sum = |elements: usize| Tensor::<OnWgpu, 1>::ones([elements], &device).sum();
        assert_eq!(OnWgpu::guarded(&device, || sum(1000).into_scalar()).unwrap(), 1000.0);
        let failed = OnWgpu::guarded(&device, || drop(sum(largest as usize / 4 + 1)));
        assert!(matches!(failed, Err(DeviceFault::OutOfMemory { .. })), "{failed:?}");
        // The device's own answer is a sum of 0.
        assert!(OnWgpu::guarded(&device, || sum(1000).into_scalar()).is_err());
        // The device itself answers again, with numbers that mean nothing.
        for _ in 0..3 {
            assert!(matches!(OnWgpu::settle(&device), Err(DeviceFault::OutOfMemory { .. })));
        }
    }
}
