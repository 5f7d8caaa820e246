//! A transformer of one block, small enough to see through, from candle-nn's layers.

use std::collections::BTreeMap;

use candle_core::{D, DType, Device, Result, Tensor, Var};
use candle_nn::{Embedding, LayerNorm, Linear, Module, VarBuilder, VarMap};
use traintrue_protocol::Plan;

use crate::data::Batch;
use crate::random::{self, Dropout};
use crate::{Norm, Random, Tensors};

const EPS: f32 = 1e-5;

/// What a forward is for.
#[derive(Clone, Copy, PartialEq)]
pub enum Pass {
    /// Dropout is on, and layers are normalised as the loop was told.
    Training,
    /// Probes and evaluations: no dropout, and the norm whose gradients are known to be right.
    Outside,
}

/// Token and place, attention, two linears, logits; a norm before each of the last three.
pub struct Model {
    pub weights: VarMap,
    /// The same variables by name, in one order.
    pub named: BTreeMap<String, Var>,
    pub dropout: Dropout,
    embedding: Embedding,
    places: Embedding,
    norms: [Normed; 3],
    attention: [Linear; 4],
    up: Linear,
    down: Linear,
    head: Linear,
}

impl Model {
    /// A model with fresh weights.
    pub fn new(plan: &Plan, norm: Norm, random: Random) -> Result<Self> {
        let (data, hidden) = (&plan.data, if plan.model.size == "tiny" { 8 } else { 32 });
        let vocabulary = data.tokens.vocabulary as usize;
        let weights = VarMap::new();
        let vb = VarBuilder::from_varmap(&weights, DType::F32, &Device::Cpu);
        let linear = |name: &str, inputs, outputs| candle_nn::linear_no_bias(inputs, outputs, vb.pp(name));
        let normed = |name: &str| Normed::new(hidden, norm, vb.pp(name));
        let square = |name| linear(name, hidden, hidden);
        let (embedding, places) = (vb.pp("embedding"), vb.pp("places"));
        let widest = data.max_length.next_multiple_of(data.padding.multiple_of) as usize;
        let model = Self {
            embedding: candle_nn::embedding(vocabulary, hidden, embedding)?,
            places: candle_nn::embedding(widest, hidden, places)?,
            norms: [normed("norm1")?, normed("norm2")?, normed("norm3")?],
            attention: [square("q")?, square("k")?, square("v")?, square("o")?],
            up: linear("up", hidden, 2 * hidden)?,
            down: linear("down", 2 * hidden, hidden)?,
            head: linear("head", hidden, vocabulary)?,
            named: named(&weights),
            dropout: Dropout::new(plan.train.dropout, random, plan.seed, 0),
            weights,
        };
        if random == Random::Seeded {
            let matrices = model.named.values().filter(|var| var.rank() == 2);
            for (number, matrix) in (0..).zip(matrices) {
                random::draw(matrix, plan.seed, number)?;
            }
        }
        Ok(model)
    }

    /// Logits. Shape: rows * width, vocabulary.
    pub fn logits(&self, batch: &Batch, pass: Pass) -> Result<Tensor> {
        let x = (self.embedding.forward(&batch.ids)? + self.places.forward(&batch.places)?)?;
        let x = self.dropout.forward(&x, pass)?;
        let attended = self.attend(&self.norms[0].forward(&x, pass)?, &batch.mask)?;
        let x = (x + self.dropout.forward(&attended, pass)?)?;
        let inner = self.up.forward(&self.norms[1].forward(&x, pass)?)?.gelu_erf()?;
        let x = (x + self.down.forward(&inner)?)?;
        self.head.forward(&self.norms[2].forward(&x, pass)?)?.flatten_to(1)
    }

    fn attend(&self, x: &Tensor, mask: &Tensor) -> Result<Tensor> {
        let [q, k, v, o] = &self.attention;
        let scale = 1.0 / (x.dim(D::Minus1)? as f64).sqrt();
        let scores = (q.forward(x)?.matmul(&k.forward(x)?.t()?)? * scale)?;
        // Not `softmax_last_dim`: no gradient goes through it.
        let weights = candle_nn::ops::softmax(&(scores + mask)?, D::Minus1)?;
        o.forward(&weights.matmul(&v.forward(x)?)?)
    }

    /// The language-model loss of each position, 0 where nothing is predicted. Shape: rows, width.
    pub fn losses(&self, batch: &Batch, logits: &Tensor) -> Result<Tensor> {
        let logs = candle_nn::ops::log_softmax(logits, 1)?;
        let of_next = logs.gather(&batch.next.unsqueeze(1)?, 1)?.squeeze(1)?;
        (of_next * &batch.supervised)?.neg()?.reshape((batch.rows, batch.width))
    }

    /// The summed loss of a batch, and the gradients of it over `divisor`.
    pub fn backward(&self, batch: &Batch, pass: Pass, divisor: u64) -> Result<(f64, Tensors)> {
        let sum = self.losses(batch, &self.logits(batch, pass)?)?.sum_all()?;
        let mut found = (&sum / divisor as f64)?.backward()?;
        let of = |(name, var): (&String, &Var)| Some((name.clone(), found.remove(var.as_tensor())?));
        let gradients = self.named.iter().filter_map(of).collect();
        Ok((f64::from(sum.to_scalar::<f32>()?), gradients))
    }
}

/// A layer norm with weight and bias, by one of two functions of candle-nn.
struct Normed {
    layer: LayerNorm,
    norm: Norm,
}

impl Normed {
    fn new(size: usize, norm: Norm, vb: VarBuilder) -> Result<Self> {
        Ok(Self { layer: candle_nn::layer_norm(size, f64::from(EPS), vb)?, norm })
    }

    fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        match self.layer.bias() {
            Some(bias) if self.norm == Norm::Slow || pass == Pass::Outside => {
                candle_nn::ops::layer_norm_slow(x, self.layer.weight(), bias, EPS)
            }
            _ => self.layer.forward(x),
        }
    }
}

fn named(weights: &VarMap) -> BTreeMap<String, Var> {
    let held = weights.data().lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    held.iter().map(|(name, var)| (name.clone(), var.clone())).collect()
}

/// A tensor's values, flattened.
pub fn values(tensor: &Tensor) -> Result<Vec<f32>> {
    tensor.flatten_all()?.to_vec1()
}
