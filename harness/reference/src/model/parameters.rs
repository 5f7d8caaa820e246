//! Every tensor of the model by name, in one fixed order, on the backend that tracks nothing.
//!
//! Vectors are kept as one-row matrices, so that every parameter, gradient and moment has the same rank; `shape` is the
//! true one.

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};

use crate::engine::Engine;
use crate::turn::Turn;

/// One tensor of the model.
#[derive(Clone, Debug)]
pub struct Parameter<B: Backend> {
    /// Its name, such as `layers.0.q.lora_a`.
    pub name: String,
    /// `base`, `adapter`, or the name of a head.
    pub group: String,
    /// Its extents; a vector has one.
    pub shape: Vec<usize>,
    /// Whether it learns.
    pub trainable: bool,
    /// Its values.
    pub value: Tensor<B, 2>,
}

impl<B: Backend> Parameter<B> {
    /// The extents it is kept in: a vector has one row.
    pub fn extents(shape: &[usize]) -> [usize; 2] {
        match shape {
            [rows, columns] => [*rows, *columns],
            other => [1, other.iter().product()],
        }
    }

    /// Its values in row-major order.
    pub fn values(&self) -> Vec<f32> {
        to_vec(self.value.clone())
    }

    /// Puts `values` in place of its own. Their number must be that of its elements.
    pub fn set(&mut self, values: Vec<f32>) {
        let device = self.value.device();
        self.value = from_vec(values, Self::extents(&self.shape), &device);
    }
}

/// The tensors of a model.
#[derive(Clone, Debug)]
pub struct Parameters<B: Backend>(pub Vec<Parameter<B>>);

impl<B: Backend> Parameters<B> {
    /// The tensors as the leaves of a graph. With a turn, gradients reach those that learn; the turn must last until the
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
