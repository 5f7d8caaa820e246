//! The forward pass: from rows to the logits of the anchors and the head's vectors.

use std::ops::Range;

use burn::tensor::{Int, Tensor, TensorData};

use super::attention::{Mask, causal_over_tokens, masked_softmax};
use super::build::{Block, Linear, Model, Norm};
use super::cache::Cache;
use super::dropout::{DrawMask, Dropout, bernoulli};
use super::layers::{Normalise, Product, gelu, linear, norm};
use super::loss::lm_by_row;
use super::pooling::{mean_of_tokens, unit};
use super::precision::Precision;
use crate::data::Rows;
use crate::engine::Engine;

/// The parts of the forward pass.
pub struct ForwardParts<E: Engine> {
    /// Whether a position of a row may attend to another.
    pub allows: fn(real: &[bool], from: usize, to: usize) -> bool,
    /// The product of two matrices.
    pub product: Product<E>,
    /// Layer norm.
    pub norm: Normalise<E>,
    /// The activation between the two linear layers of a block.
    pub gelu: fn(Tensor<E, 2>) -> Tensor<E, 2>,
    /// Attention weights from scores `[rows, heads, queries, keys]`.
    pub softmax: fn(Tensor<E, 4>, &Mask<E>) -> Tensor<E, 4>,
    /// One vector per row, from the row's hidden states.
    pub pool: fn(Tensor<E, 2>, &Rows, Precision) -> Tensor<E, 2>,
    /// Normalises each row to length 1.
    pub unit: fn(Tensor<E, 2>, Precision) -> Tensor<E, 2>,
    /// The position of the token at `place`, in a forward pass that begins at position `from` of each row.
    pub position: fn(&Rows, place: usize, from: usize) -> u32,
    /// The mask of a dropout.
    pub mask: DrawMask,
    /// The language-model loss of each row, from the logits of its positions.
    pub loss: RowLoss<E>,
}

/// Summed losses `[rows]` from logits `[rows * width, vocabulary]` and targets.
pub type RowLoss<E> = fn(Tensor<E, 2>, &[Option<u32>], width: usize) -> Tensor<E, 1>;

impl<E: Engine> Default for ForwardParts<E> {
    fn default() -> Self {
        Self {
            allows: causal_over_tokens,
            product: Tensor::matmul,
            norm,
            gelu,
            softmax: masked_softmax,
            pool: mean_of_tokens,
            unit,
            position: |rows, place, _| rows.positions[place],
            mask: bernoulli,
            loss: lm_by_row,
        }
    }
}

/// What a forward pass needs besides its rows.
pub struct Pass<'a, E: Engine> {
    /// The indices of the weights.
    pub model: &'a Model,
    /// The parameters; those that are trained have gradients in a training pass.
    pub weights: &'a [Tensor<E, 2>],
    /// The replaceable functions.
    pub parts: &'a ForwardParts<E>,
    /// Active in training, inactive in evaluation and probes.
    pub dropout: &'a mut Dropout,
    /// The number format of the pooling path.
    pub precision: Precision,
    /// Whether the trace gets the rows of this pass.
    pub tells: bool,
    /// Where new tensors are made.
    pub device: &'a E::Device,
}

/// Hidden states after the last norm, `[rows * positions, d]`, of the positions `span` of each row.
pub fn forward<E: Engine>(
    pass: &mut Pass<E>,
    rows: &Rows,
    span: Range<usize>,
    mask: &Mask<E>,
    mut cache: Option<&mut Cache<E>>,
) -> Tensor<E, 2> {
    pass.dropout.forwards();
    let mut x = embed(pass, rows, span.clone());
    x = pass.drop(x);
    for (layer, block) in pass.model.blocks.iter().enumerate() {
        let attended =
            attend(pass, block, x.clone(), layer, rows.count, span.clone(), mask, cache.as_deref_mut());
        x = x + pass.drop(attended);
        let inner = pass.norm(x.clone(), &block.inner_norm);
        let inner = (pass.parts.gelu)(pass.linear(inner, &block.up));
        let inner = pass.linear(inner, &block.down);
        x = x + pass.drop(inner);
    }
    pass.norm(x, &pass.model.norm)
}

impl<E: Engine> Pass<'_, E> {
    /// Dropout, where it is active.
    fn drop(&mut self, x: Tensor<E, 2>) -> Tensor<E, 2> {
        self.dropout.apply(x, self.parts.mask)
    }

    fn norm(&self, x: Tensor<E, 2>, layer: &Norm) -> Tensor<E, 2> {
        (self.parts.norm)(x, layer, self.weights)
    }

    fn linear(&self, x: Tensor<E, 2>, layer: &Linear) -> Tensor<E, 2> {
        linear(x, layer, self.weights, self.model.adapter_scale, self.parts.product)
    }

    /// The mask of some rows.
    pub fn mask(&self, rows: &Rows) -> Mask<E> {
        Mask::new(rows, self.parts.allows, self.device)
    }

    /// Logits `[n, vocabulary]` of hidden states `[n, d]`.
    pub fn logits(&self, hidden: Tensor<E, 2>) -> Tensor<E, 2> {
        (self.parts.product)(hidden, self.weights[self.model.lm_head].clone())
    }

    /// The projection head's unit vectors `[rows, projection]`, where there is a head.
    pub fn project(&self, hidden: Tensor<E, 2>, rows: &Rows) -> Option<Tensor<E, 2>> {
        let head = self.model.projection.as_ref()?;
        let pooled = (self.parts.pool)(hidden, rows, self.precision);
        let projected = self.precision.round(linear(pooled, head, self.weights, 0.0, self.parts.product));
        Some((self.parts.unit)(projected, self.precision))
    }
}

fn embed<E: Engine>(pass: &Pass<E>, rows: &Rows, span: Range<usize>) -> Tensor<E, 2> {
    let d = pass.model.size.hidden;
    let places: Vec<usize> =
        (0..rows.count).flat_map(|row| span.clone().map(move |at| row * rows.width + at)).collect();
    let ids: Vec<i64> = places.iter().map(|&at| i64::from(rows.ids[at])).collect();
    let table = sinusoids(rows.width, d);
    let position = |&at: &usize| (pass.parts.position)(rows, at, span.start) as usize;
    let positions: Vec<f32> = places.iter().map(position).flat_map(|at| &table[at]).copied().collect();
    let ids = Tensor::<E, 1, Int>::from_data(TensorData::new(ids, [places.len()]), pass.device);
    let positions = Tensor::from_data(TensorData::new(positions, [places.len(), d]), pass.device);
    pass.weights[pass.model.embedding].clone().select(0, ids) + positions
}

/// Sines and cosines of each position below `width` (arXiv 1706.03762, section 3.5).
fn sinusoids(width: usize, d: usize) -> Vec<Vec<f32>> {
    let periods: Vec<f64> = (0..d).map(|at| 10_000_f64.powf((at / 2 * 2) as f64 / d as f64)).collect();
    let wave = |position: usize, at: usize| {
        let angle = position as f64 / periods[at];
        (if at.is_multiple_of(2) { angle.sin() } else { angle.cos() }) as f32
    };
    (0..width).map(|position| (0..d).map(|at| wave(position, at)).collect()).collect()
}

#[expect(
    clippy::too_many_arguments,
    reason = "a block's attention is all of these, and none of them is state"
)]
fn attend<E: Engine>(
    pass: &Pass<E>,
    block: &Block,
    x: Tensor<E, 2>,
    layer: usize,
    rows: usize,
    span: Range<usize>,
    mask: &Mask<E>,
    cache: Option<&mut Cache<E>>,
) -> Tensor<E, 2> {
    let (heads, d) = (pass.model.size.heads, pass.model.size.hidden);
    let split = |y: Tensor<E, 2>| y.reshape([rows, span.len(), heads, d / heads]).swap_dims(1, 2);

    let x = pass.norm(x, &block.attention_norm);
    let queries = split(pass.linear(x.clone(), &block.q));
    let mut keys = split(pass.linear(x.clone(), &block.k));
    let mut values = split(pass.linear(x, &block.v));
    if let Some(cache) = cache {
        (keys, values) = cache.extend(layer, span.start, keys, values);
    }
    let queries = queries / ((d / heads) as f64).sqrt();
    let scores = queries.matmul(keys.swap_dims(2, 3));
    let attended = (pass.parts.softmax)(scores, mask).matmul(values);
    let attended = attended.swap_dims(1, 2).reshape([rows * span.len(), d]);
    pass.linear(attended, &block.o)
}
