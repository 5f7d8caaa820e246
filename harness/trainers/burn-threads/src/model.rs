//! A language model after Bengio et al. (2003) and its training step, as a user of burn writes them: a `Module`, one
//! backward pass per micro-batch, burn's `GradientsAccumulator` and burn's AdamW.

use std::iter;

use burn::backend::{Autodiff, NdArray};
use burn::module::{Module, Param};
use burn::optim::adaptor::OptimizerAdaptor;
use burn::optim::{AdamW, AdamWConfig, GradientsAccumulator, GradientsParams, Optimizer};
use burn::tensor::activation::log_softmax;
use burn::tensor::backend::Backend;
use burn::tensor::{Distribution, Int, Tensor, TensorData};
use traintrue_protocol::Plan;

/// One thread per tensor operation: a training alone gives the same bits every time.
pub type Cpu = Autodiff<NdArray>;

/// Tokens that the next token is predicted from. The first token of a sample stands in for those before it.
const CONTEXT: usize = 8;
const WIDTH: usize = 64;
const HIDDEN: usize = 8;

/// A parameter: all are matrices.
pub type Parameter<B> = Param<Tensor<B, 2>>;

/// The next token's logits from the embeddings of the tokens before it, side by side.
#[derive(Module, Debug)]
pub struct Model<B: Backend> {
    /// Shape: hidden, vocabulary.
    head: Parameter<B>,
    /// Shape: context * width, hidden.
    hidden: Parameter<B>,
    /// Shape: vocabulary, width.
    embedding: Parameter<B>,
}

impl<B: Backend> Model<B> {
    fn new(plan: &Plan) -> Self {
        let device = Default::default();
        B::seed(&device, plan.seed);
        let vocabulary = plan.data.tokens.vocabulary as usize;
        let random =
            |shape| Param::from_tensor(Tensor::random(shape, Distribution::Normal(0.0, 0.3), &device));
        Self {
            head: random([HIDDEN, vocabulary]),
            hidden: random([CONTEXT * WIDTH, HIDDEN]),
            embedding: random([vocabulary, WIDTH]),
        }
    }

    /// Every parameter and its name.
    pub fn parameters(&self) -> [(&'static str, &Parameter<B>); 3] {
        [("head", &self.head), ("hidden", &self.hidden), ("embedding", &self.embedding)]
    }

    /// The summed loss of one sample. Shape: 1.
    fn loss(&self, sample: &[u32]) -> Tensor<B, 1> {
        let targets = sample.len() - 1;
        let before = iter::repeat_n(&sample[0], CONTEXT - 1);
        let padded: Vec<i64> = before.chain(sample).map(|&id| i64::from(id)).collect();
        let ids = |from: usize| {
            let ids = TensorData::from(&padded[from..from + targets]);
            Tensor::<B, 1, Int>::from_data(ids, &self.head.device())
        };
        let context = (0..CONTEXT).map(|from| self.embedding.val().select(0, ids(from))).collect();
        let logits = Tensor::cat(context, 1).matmul(self.hidden.val()).tanh().matmul(self.head.val());
        log_softmax(logits, 1).gather(1, ids(CONTEXT).reshape([targets, 1])).sum().neg()
    }
}

/// A model, its optimizer, and what the last step gave.
pub struct Training {
    pub model: Model<Cpu>,
    optimizer: OptimizerAdaptor<AdamW, Model<Cpu>, Cpu>,
    lr: f64,
    /// Optimizer steps done.
    pub steps: u64,
    /// The gradient that the last step used, by parameter; empty where burn gave none.
    pub gradients: Vec<Vec<f32>>,
}

impl Training {
    pub fn new(plan: &Plan) -> Self {
        let asked = &plan.train.optimizer;
        let config = AdamWConfig::new()
            .with_beta_1(asked.betas[0] as f32)
            .with_beta_2(asked.betas[1] as f32)
            .with_epsilon(asked.eps as f32)
            .with_weight_decay(asked.decay as f32);
        let (model, optimizer) = (Model::new(plan), config.init());
        Self { model, optimizer, lr: asked.lr, steps: 0, gradients: Vec::new() }
    }

    /// One update over a window, with a forward and a backward pass per sample. Returns the summed loss of each sample.
    pub fn step(&mut self, window: &[Vec<u32>]) -> Vec<f64> {
        let mut accumulated = GradientsAccumulator::new();
        let mut losses = Vec::new();
        for sample in window {
            let loss = self.model.loss(sample);
            losses.push(values(loss.clone().inner()).iter().map(|&it| f64::from(it)).sum());
            let found = (loss / targets(window) as f64).backward();
            accumulated.accumulate(&self.model, GradientsParams::from_grads(found, &self.model));
        }
        let gradients = accumulated.grads();
        self.gradients = self.by_parameter(&gradients);
        self.model = self.optimizer.step(self.lr, self.model.clone(), gradients);
        self.steps += 1;
        losses
    }

    fn by_parameter(&self, gradients: &GradientsParams) -> Vec<Vec<f32>> {
        let of = |(_, parameter): (_, &Parameter<Cpu>)| {
            gradients.get::<NdArray, 2>(parameter.id).map(values).unwrap_or_default()
        };
        self.model.parameters().into_iter().map(of).collect()
    }
}

/// Tokens of these samples that the model predicts.
pub fn targets(samples: &[Vec<u32>]) -> u64 {
    samples.iter().map(|sample| sample.len() as u64 - 1).sum()
}

/// A tensor's values in row-major order.
pub fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}
