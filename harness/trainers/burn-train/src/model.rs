//! A model small enough to see through: the next token from this one, by a vector a token.
//!
//! Its `step` and `optimize` are where burn's loop calls its user, and where its trace is written.

use burn::module::{AutodiffModule, Module, ModuleVisitor, Param};
use burn::nn::{Dropout, DropoutConfig};
use burn::optim::{GradientsParams, Optimizer};
use burn::tensor::activation::log_softmax;
use burn::tensor::backend::{AutodiffBackend, Backend};
use burn::tensor::{Distribution, Int, Tensor, TensorData};
use burn_train::{InferenceStep, TrainOutput, TrainStep};
use traintrue_protocol::Plan;
use traintrue_protocol::digest::{Digest, square_sum};
use traintrue_protocol::trace::event::{Loss, MicroBatch as Trained, Update};

use crate::journal::Journal;
use crate::loader::MicroBatch;

const WIDTH: usize = 8;

/// Logits of the next token: the row of this one times a matrix.
#[derive(Module, Debug)]
pub struct Bigram<B: Backend> {
    /// Shape: vocabulary, width.
    embedding: Param<Tensor<B, 2>>,
    /// Shape: width, vocabulary.
    head: Param<Tensor<B, 2>>,
    dropout: Dropout,
    #[module(skip)]
    journal: Journal,
}

impl<B: Backend> Bigram<B> {
    /// Initial weights from burn's generator.
    pub fn new(plan: &Plan, journal: Journal, device: &B::Device) -> Self {
        let vocabulary = plan.data.tokens.vocabulary as usize;
        let random =
            |shape| Param::from_tensor(Tensor::random(shape, Distribution::Normal(0.0, 0.3), device));
        let (embedding, head) = (random([vocabulary, WIDTH]), random([WIDTH, vocabulary]));
        Self { embedding, head, dropout: DropoutConfig::new(plan.train.dropout).init(), journal }
    }

    /// The mean loss over all pairs of neighbours, and how many there are.
    fn loss(&self, batch: &MicroBatch) -> (Tensor<B, 1>, usize) {
        let pairs: Vec<[i32; 2]> = batch
            .samples
            .iter()
            .flat_map(|sample| sample.tokens.windows(2).map(|pair| [pair[0] as i32, pair[1] as i32]))
            .collect();
        let device = self.embedding.val().device();
        let ids = |at: usize| {
            let ids: Vec<i32> = pairs.iter().map(|pair| pair[at]).collect();
            Tensor::<B, 1, Int>::from_data(TensorData::from(ids.as_slice()), &device)
        };
        let vectors = self.dropout.forward(self.embedding.val().select(0, ids(0)));
        let logits = vectors.matmul(self.head.val());
        let chosen = log_softmax(logits, 1).gather(1, ids(1).reshape([pairs.len(), 1]));
        (chosen.mean().neg(), pairs.len())
    }
}

impl<B: AutodiffBackend> TrainStep for Bigram<B> {
    type Input = MicroBatch;
    type Output = ();

    fn step(&self, batch: MicroBatch) -> TrainOutput<()> {
        let (loss, targets) = self.loss(&batch);
        let losses = vec![summed(&loss, targets)];
        self.journal.note(Trained {
            epoch: batch.epoch,
            index: batch.index,
            samples: Some(batch.samples.iter().map(|sample| sample.id).collect()),
            targets: Some(targets as u64),
            losses,
            ..Default::default()
        });
        TrainOutput::new(self, loss.backward(), ())
    }

    fn optimize<A, O>(self, optimizer: &mut O, lr: f64, gradients: GradientsParams) -> Self
    where
        A: AutodiffBackend,
        O: Optimizer<Self, A>,
        Self: AutodiffModule<A>,
    {
        let mut seen = Seen { gradients: &gradients, squares: 0.0, digest: None };
        Module::<A>::visit(&self, &mut seen);
        let norm = seen.squares.sqrt();
        let updated = optimizer.step(lr, self, gradients);
        let mut after =
            Seen { gradients: &GradientsParams::new(), squares: 0.0, digest: Some(Digest::new()) };
        Module::<A>::visit(&updated, &mut after);
        updated.journal.note(Update {
            step: updated.journal.next_step(),
            lr: vec![lr.into()],
            grad_norm: Some(norm.into()),
            clipped_norm: Some(updated.journal.given_norm().into()),
            digest: after.digest.map(Digest::text),
            ..Default::default()
        });
        updated
    }
}

impl<B: Backend> InferenceStep for Bigram<B> {
    type Input = MicroBatch;
    type Output = ();

    fn step(&self, batch: MicroBatch) {
        let (loss, targets) = self.loss(&batch);
        self.journal.evaluated(summed(&loss, targets));
    }
}

/// Looks at every parameter: its gradient, or its values.
struct Seen<'a> {
    gradients: &'a GradientsParams,
    squares: f64,
    digest: Option<Digest>,
}

impl<B: AutodiffBackend> ModuleVisitor<B> for Seen<'_> {
    fn visit_float<const D: usize>(&mut self, parameter: &Param<Tensor<B, D>>) {
        if let Some(gradient) = self.gradients.get::<B::InnerBackend, D>(parameter.id) {
            self.squares += square_sum(&values(gradient));
        }
        self.digest = self.digest.take().map(|digest| digest.values(&values(parameter.val().inner())));
    }
}

/// A tensor's values, flattened.
pub fn values<B: Backend, const D: usize>(tensor: Tensor<B, D>) -> Vec<f32> {
    tensor.into_data().iter::<f32>().collect()
}

/// A mean loss as its sum and its weight.
fn summed<B: Backend>(mean: &Tensor<B, 1>, targets: usize) -> Loss {
    let mean = mean.to_data().iter::<f64>().next().unwrap_or(f64::NAN);
    Loss::new("lm", mean * targets as f64, targets as u64)
}
