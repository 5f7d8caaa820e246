//! From hidden states to one unit vector per row: masked mean and normalisation, without NaN for a row that has no token.

use burn::tensor::{Tensor, TensorData};

use super::precision::Precision;
use crate::data::Rows;
use crate::engine::Engine;

/// The mean of the hidden states of each row's tokens, `[rows * width, d] -> [rows, d]`; a row without one gives 0.
/// A row's count is raised to `at_least`.
pub fn masked_mean<E: Engine>(
    hidden: Tensor<E, 2>,
    rows: &Rows,
    precision: Precision,
    at_least: f32,
) -> Tensor<E, 2> {
    let [_, d] = hidden.dims();
    let device = hidden.device();
    let real: Vec<f32> = rows.real.iter().map(|&real| f32::from(u8::from(real))).collect();
    let counts: Vec<f32> = real
        .chunks_exact(rows.width)
        .map(|row| precision.scalar(row.iter().sum::<f32>()).max(precision.scalar(at_least)))
        .collect();
    let real = Tensor::<E, 3>::from_data(TensorData::new(real, [rows.count, rows.width, 1]), &device);
    let counts = Tensor::<E, 2>::from_data(TensorData::new(counts, [rows.count, 1]), &device);
    let sum = (hidden.reshape([rows.count, rows.width, d]) * real).sum_dim(1).reshape([rows.count, d]);
    precision.round(precision.round(sum) / counts)
}

/// The right pooling: the count is at least 1, which every number format can represent.
pub fn mean_of_tokens<E: Engine>(hidden: Tensor<E, 2>, rows: &Rows, precision: Precision) -> Tensor<E, 2> {
    masked_mean(hidden, rows, precision, 1.0)
}

/// Divides each row by its length. A row of zeros stays zero.
pub fn unit<E: Engine>(x: Tensor<E, 2>, precision: Precision) -> Tensor<E, 2> {
    let square = (x.clone() * x.clone()).sum_dim(1);
    let zero = square.clone().detach().equal_elem(0.0).float();
    precision.round(x / (square + zero).sqrt())
}
