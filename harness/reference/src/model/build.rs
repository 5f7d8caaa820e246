//! Builds a model from a plan: its tensors, their order and their initial values. The drawing comes first and allocates no
//! tensor, so a placement knows the bytes that a model needs before it loads one.

use burn::tensor::backend::Backend;
use traintrue_protocol::plan::{Adapters, Data, Plan};

use super::parameters::{Parameter, Parameters, from_vec};
use crate::data::width;
use crate::rng;

/// The dimensions of a model.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Size {
    /// Transformer blocks.
    pub layers: usize,
    /// Width of the hidden states.
    pub hidden: usize,
    /// Attention heads.
    pub heads: usize,
    /// Width of the feed-forward part.
    pub inner: usize,
    /// Width of the projection head's output.
    pub projection: usize,
}

/// A model that this trainer does not have.
#[derive(Debug, thiserror::Error)]
pub enum SizeError {
    /// A size of another trainer.
    #[error("plan: model.size: {0:?} is not a size of this trainer; it has tiny, small, deep and wide")]
    Unknown(String),
    /// A vocabulary whose tables would take all memory: an allocation that fails ends the process without a word.
    #[error(
        "plan: data.tokens.vocabulary: found {0}, expected at most {VOCABULARY_MOST}: this trainer's models are small"
    )]
    Vocabulary(u32),
    /// Adapters so wide, likewise.
    #[error(
        "plan: train.adapters.r: found {0}, expected at most {RANK_MOST}: this trainer's models are small"
    )]
    Rank(u64),
    /// Rows so long, likewise. Their masks are on the host, whatever the device.
    #[error(
        "plan: data: rows of {0} positions, expected at most {WIDTH_MOST}; see data.padding, its multiple_of, and \
         data.max_length"
    )]
    Width(usize),
}

/// More ids than any tokenizer has.
const VOCABULARY_MOST: u32 = 1 << 20;
/// Far above the extents of every model here.
const RANK_MOST: u64 = 1 << 16;
/// More positions than this trainer could attend over.
const WIDTH_MOST: usize = 1 << 15;

/// Refuses rows that are padded to more positions than a mask could have. Long samples are not refused: their rows are
/// what they are.
fn check_width(data: &Data) -> Result<(), SizeError> {
    let longest = data.samples.iter().map(Vec::len).max().unwrap_or(0);
    let most = data.max_length as usize;
    let padded = width(longest.min(most), &data.padding, most);
    let added = padded > longest && padded > WIDTH_MOST;
    if added { Err(SizeError::Width(padded)) } else { Ok(()) }
}

impl Size {
    /// The size of this name.
    pub fn named(name: &str) -> Result<Self, SizeError> {
        match name {
            "tiny" => Ok(Self { layers: 1, hidden: 8, heads: 2, inner: 16, projection: 4 }),
            "small" => Ok(Self { layers: 2, hidden: 64, heads: 4, inner: 128, projection: 32 }),
            "deep" => Ok(Self { layers: 4, hidden: 32, heads: 2, inner: 64, projection: 16 }),
            "wide" => Ok(Self { layers: 1, hidden: 128, heads: 2, inner: 512, projection: 32 }),
            other => Err(SizeError::Unknown(other.to_owned())),
        }
    }
}

/// Indices of a linear's tensors among the parameters: weight `[in, out]`, bias `[out]`, and its adapter `[in, r]`, `[r,
/// out]`.
#[derive(Clone, Debug)]
pub struct Linear {
    pub(crate) weight: usize,
    pub(crate) bias: usize,
    pub(crate) adapter: Option<(usize, usize)>,
}

/// Indices of a layer norm's tensors.
#[derive(Clone, Debug)]
pub struct Norm {
    pub(crate) weight: usize,
    pub(crate) bias: usize,
}

/// One transformer block.
#[derive(Clone, Debug)]
pub struct Block {
    pub(crate) attention_norm: Norm,
    pub(crate) q: Linear,
    pub(crate) k: Linear,
    pub(crate) v: Linear,
    pub(crate) o: Linear,
    pub(crate) inner_norm: Norm,
    pub(crate) up: Linear,
    pub(crate) down: Linear,
}

/// The structure of a model: the index of each tensor among the parameters.
#[derive(Clone, Debug)]
pub struct Model {
    /// The dimensions.
    pub size: Size,
    pub(crate) embedding: usize,
    pub(crate) blocks: Vec<Block>,
    pub(crate) norm: Norm,
    pub(crate) lm_head: usize,
    /// The projection head, where the plan has one.
    pub projection: Option<Linear>,
    /// The factor of an adapter's delta.
    pub adapter_scale: f64,
}

/// `alpha / r`, or `alpha / sqrt(r)` when rank-stabilised (rsLoRA, arXiv 2312.03732).
pub fn adapter_scale(adapters: &Adapters) -> f64 {
    let r = adapters.r as f64;
    adapters.alpha / if adapters.rs { r.sqrt() } else { r }
}

/// One tensor of a drawing.
#[derive(Clone, Debug)]
pub struct Drawn {
    name: String,
    group: String,
    shape: Vec<usize>,
    /// Whether the tensor is trained.
    pub trainable: bool,
    initial: Initial,
}

/// The source of a tensor's initial values.
#[derive(Clone, Copy, Debug)]
enum Initial {
    /// This value in every element.
    Constant(f32),
    /// Normal with this deviation, from the random stream of the base model.
    Base(f64),
    /// Normal with this deviation, from the random stream of adapters and heads.
    Added(f64),
}

impl Drawn {
    /// The number of values.
    pub fn elements(&self) -> u64 {
        self.shape.iter().map(|&extent| extent as u64).product()
    }
}

/// A model whose tensors are known and not yet loaded.
pub struct Drawing {
    /// The structure.
    pub model: Model,
    /// The tensors in the order of the parameters.
    pub tensors: Vec<Drawn>,
}

impl Drawing {
    /// Loads the tensors one by one, in order.
    pub fn load<'a, B: Backend>(
        &'a self,
        seed: u64,
        device: &'a B::Device,
    ) -> impl Iterator<Item = Parameter<B>> + 'a {
        let (mut base, mut added) = (rng::base_weights(seed), rng::added_weights(seed));
        self.tensors.iter().map(move |it| {
            let count = it.shape.iter().product();
            let values = match it.initial {
                Initial::Constant(value) => vec![value; count],
                Initial::Base(deviation) => rng::normal(&mut base, count, deviation),
                Initial::Added(deviation) => rng::normal(&mut added, count, deviation),
            };
            Parameter {
                name: it.name.clone(),
                group: it.group.clone(),
                shape: it.shape.clone(),
                trainable: it.trainable,
                value: from_vec(values, Parameter::<B>::extents(&it.shape), device),
            }
        })
    }
}

impl Model {
    /// The model of a plan, with the initial parameters that `seed` draws.
    pub fn build<B: Backend>(
        plan: &Plan,
        seed: u64,
        device: &B::Device,
    ) -> Result<(Self, Parameters<B>), SizeError> {
        let drawing = Self::draw(plan)?;
        let parameters = Parameters(drawing.load(seed, device).collect());
        Ok((drawing.model, parameters))
    }

    /// The drawing of a plan's model.
    pub fn draw(plan: &Plan) -> Result<Drawing, SizeError> {
        let size = Size::named(&plan.model.size)?;
        let mut builder = Builder { adapters: plan.train.adapters.as_ref(), tensors: Vec::new() };
        let ids = plan.data.tokens.vocabulary;
        if ids > VOCABULARY_MOST {
            return Err(SizeError::Vocabulary(ids));
        }
        if let Some(r) = plan.train.adapters.as_ref().map(|it| it.r).filter(|&r| r > RANK_MOST) {
            return Err(SizeError::Rank(r));
        }
        check_width(&plan.data)?;
        let vocabulary = ids as usize;
        let embedding = builder.base("embedding.weight", &[vocabulary, size.hidden], 0.5);
        let blocks = (0..size.layers).map(|layer| builder.block(layer, &size)).collect();
        let norm = builder.norm("norm", size.hidden);
        let lm_head = builder.base("lm_head.weight", &[size.hidden, vocabulary], fan_in(size.hidden));
        let projection =
            plan.train.heads.first().map(|name| builder.head(name, size.hidden, size.projection));
        let model = Self {
            size,
            embedding,
            blocks,
            norm,
            lm_head,
            projection,
            adapter_scale: plan.train.adapters.as_ref().map_or(0.0, adapter_scale),
        };
        Ok(Drawing { model, tensors: builder.tensors })
    }
}

impl Model {
    /// Indices of each adapted linear's weight and of its adapter's two matrices.
    pub fn adapted(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        let linears = self.blocks.iter().flat_map(|it| [&it.q, &it.k, &it.v, &it.o, &it.up, &it.down]);
        linears.filter_map(|linear| linear.adapter.map(|(a, b)| (linear.weight, a, b)))
    }
}

fn fan_in(width: usize) -> f64 {
    1.0 / (width as f64).sqrt()
}

struct Builder<'a> {
    adapters: Option<&'a Adapters>,
    tensors: Vec<Drawn>,
}

impl Builder<'_> {
    /// Adds a tensor, and returns its index.
    fn push(
        &mut self,
        name: String,
        group: &str,
        shape: &[usize],
        trainable: bool,
        initial: Initial,
    ) -> usize {
        let (group, shape) = (group.to_owned(), shape.to_vec());
        self.tensors.push(Drawn { name, group, shape, trainable, initial });
        self.tensors.len() - 1
    }

    fn base(&mut self, name: &str, shape: &[usize], deviation: f64) -> usize {
        let trainable = self.adapters.is_none();
        self.push(name.to_owned(), "base", shape, trainable, Initial::Base(deviation))
    }

    fn constant(&mut self, name: String, width: usize, value: f32) -> usize {
        let trainable = self.adapters.is_none();
        self.push(name, "base", &[width], trainable, Initial::Constant(value))
    }

    fn norm(&mut self, name: &str, width: usize) -> Norm {
        Norm {
            weight: self.constant(format!("{name}.weight"), width, 1.0),
            bias: self.constant(format!("{name}.bias"), width, 0.0),
        }
    }

    fn linear(&mut self, layer: usize, target: &str, from: usize, to: usize) -> Linear {
        let name = format!("layers.{layer}.{target}");
        let weight = self.base(&format!("{name}.weight"), &[from, to], fan_in(from));
        let bias = self.constant(format!("{name}.bias"), to, 0.0);
        let adapter = self
            .adapters
            .filter(|adapters| adapters.targets.iter().any(|chosen| chosen == target))
            .map(|adapters| adapters.r as usize)
            .map(|r| {
                let down = Initial::Added(fan_in(from));
                let a = self.push(format!("{name}.lora_a"), "adapter", &[from, r], true, down);
                let up = Initial::Constant(0.0);
                let b = self.push(format!("{name}.lora_b"), "adapter", &[r, to], true, up);
                (a, b)
            });
        Linear { weight, bias, adapter }
    }

    fn block(&mut self, layer: usize, size: &Size) -> Block {
        Block {
            attention_norm: self.norm(&format!("layers.{layer}.attention_norm"), size.hidden),
            q: self.linear(layer, "q", size.hidden, size.hidden),
            k: self.linear(layer, "k", size.hidden, size.hidden),
            v: self.linear(layer, "v", size.hidden, size.hidden),
            o: self.linear(layer, "o", size.hidden, size.hidden),
            inner_norm: self.norm(&format!("layers.{layer}.inner_norm"), size.hidden),
            up: self.linear(layer, "up", size.hidden, size.inner),
            down: self.linear(layer, "down", size.inner, size.hidden),
        }
    }

    fn head(&mut self, name: &str, from: usize, to: usize) -> Linear {
        let weight =
            self.push(format!("{name}.weight"), name, &[from, to], true, Initial::Added(fan_in(from)));
        let bias = self.push(format!("{name}.bias"), name, &[to], true, Initial::Constant(0.0));
        Linear { weight, bias, adapter: None }
    }
}
