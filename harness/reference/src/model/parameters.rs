//! The tensors of the model in one fixed order, on the backend without autodiff.
//!
//! A vector is kept as a matrix with one row, so that every parameter, gradient and moment has rank 2; `shape` is the true
//! shape.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use crate::engine::Engine;
use crate::turn::Turn;

/// One tensor of the model.
#[derive(Clone, Debug)]
pub struct Parameter<B: Backend> {
    /// For example `layers.0.q.lora_a`.
    pub name: String,
    /// `base`, `adapter`, or the name of a head.
    pub group: String,
    /// The true shape: a vector has one dimension.
    pub shape: Vec<usize>,
    /// Whether the tensor is trained.
    pub trainable: bool,
    /// The values, as a matrix.
    pub value: Tensor<B, 2>,
}

impl<B: Backend> Parameter<B> {
    /// The shape of the matrix that a tensor of this shape is kept as.
    pub fn extents(shape: &[usize]) -> [usize; 2] {
        match shape {
            [rows, columns] => [*rows, *columns],
            other => [1, other.iter().product()],
        }
    }

    /// The values in row-major order.
    pub fn values(&self) -> Vec<f32> {
        to_vec(self.value.clone())
    }

    /// Replaces the values. There must be one per element.
    pub fn set(&mut self, values: Vec<f32>) {
        let device = self.value.device();
        self.value = from_vec(values, Self::extents(&self.shape), &device);
    }
}

/// The tensors of a model.
#[derive(Clone, Debug)]
pub struct Parameters<B: Backend>(pub Vec<Parameter<B>>);

impl<B: Backend> Parameters<B> {
    /// The tensors as leaves of a graph. With a turn, those that are trained get gradients; the turn must last until the
    /// backward pass is done.
    pub fn leaves<E: Engine<InnerBackend = B>>(&self, turn: Option<&Turn>) -> Vec<Tensor<E, 2>> {
        let leaf = |parameter: &Parameter<B>| {
            let leaf = Tensor::from_inner(parameter.value.clone());
            if turn.is_some() && parameter.trainable { leaf.require_grad() } else { leaf }
        };
        self.0.iter().map(leaf).collect()
    }
}

/// The values of a tensor in row-major order.
pub fn to_vec<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().into_vec().unwrap_or_default()
}

/// A matrix of these values.
pub fn from_vec<B: Backend>(values: Vec<f32>, extents: [usize; 2], device: &B::Device) -> Tensor<B, 2> {
    Tensor::from_data(TensorData::new(values, extents), device)
}
