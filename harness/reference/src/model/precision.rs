//! Emulated half precision: a value is rounded to f16 or bf16 and kept as f32, so that the CPU shows the errors of a
//! half-precision path. The gradient passes through the rounding unchanged.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use half::{bf16, f16};
use traintrue_protocol::plan::Dtype;

use super::parameters::to_vec;

/// The number format of a computation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Precision(pub Dtype);

impl Precision {
    /// `value`, rounded to the format.
    pub fn scalar(self, value: f32) -> f32 {
        match self.0 {
            Dtype::F32 => value,
            Dtype::F16 => f16::from_f32(value).to_f32(),
            Dtype::Bf16 => bf16::from_f32(value).to_f32(),
        }
    }

    /// `x`, rounded to the format.
    pub fn round<B: Backend>(self, x: Tensor<B, 2>) -> Tensor<B, 2> {
        if self.0 == Dtype::F32 {
            return x;
        }
        let exact = x.clone().detach();
        let values: Vec<f32> = to_vec(exact.clone());
        // The graph sees a constant added to `x`, so the gradient is unchanged. Infinite values get no constant: it would
        // be NaN.
        let added: Vec<f32> = values.iter().map(|&value| self.scalar(value) - value).collect();
        x + Tensor::from_data(TensorData::new(added, exact.shape()), &exact.device())
    }
}
