//! burn's own data loader, and beside it what its loop takes from it: epochs begin, micro-batches, epochs end.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use burn::data::dataloader::batcher::Batcher;
use burn::data::dataloader::{DataLoader, DataLoaderBuilder, DataLoaderIterator, Progress};
use burn::data::dataset::InMemDataset;
use burn::tensor::backend::Backend;
use traintrue_protocol::Plan;
use traintrue_protocol::trace::event::Epoch;

use crate::journal::Journal;

/// One sample, and which it is.
#[derive(Clone, Debug)]
pub struct Sample {
    pub id: u64,
    pub tokens: Vec<u32>,
}

/// One micro-batch, and which it is.
#[derive(Clone, Debug)]
pub struct MicroBatch {
    pub epoch: u64,
    pub index: u64,
    pub samples: Vec<Sample>,
}

/// Samples as they are: the model pads nothing.
struct AsTheyAre;

impl<B: Backend> Batcher<B, Sample, Vec<Sample>> for AsTheyAre {
    fn batch(&self, samples: Vec<Sample>, _: &B::Device) -> Vec<Sample> {
        samples
    }
}

fn samples(of: &[Vec<u32>]) -> InMemDataset<Sample> {
    let samples = of.iter().zip(0..).map(|(tokens, id)| Sample { id, tokens: tokens.clone() });
    InMemDataset::new(samples.collect())
}

/// burn's loader of the training samples, observed.
pub fn training<B: Backend>(plan: &Plan, journal: Journal, epoch: u64) -> Arc<dyn DataLoader<B, MicroBatch>> {
    let builder = DataLoaderBuilder::new(AsTheyAre).batch_size(plan.data.batch as usize);
    let builder = if plan.data.shuffle { builder.shuffle(plan.seed) } else { builder };
    let inner = builder.build(samples(&plan.data.samples));
    Arc::new(Observed { inner, journal, pass: Pass::Training, epoch: Arc::new(AtomicU64::new(epoch)) })
}

/// burn's loader of the evaluation samples, observed; it has none where the plan evaluates nothing.
pub fn validation<B: Backend>(plan: &Plan, journal: Journal) -> Arc<dyn DataLoader<B, MicroBatch>> {
    let evaluated = plan.evaluate_every.map_or(&[][..], |_| &plan.data.evaluation);
    let inner =
        DataLoaderBuilder::new(AsTheyAre).batch_size(plan.data.batch as usize).build(samples(evaluated));
    Arc::new(Observed { inner, journal, pass: Pass::Evaluation, epoch: Arc::default() })
}

/// What a loader is walked for.
#[derive(Clone, Copy, PartialEq)]
enum Pass {
    Training,
    Evaluation,
}

/// A loader of burn's that says what is taken from it.
struct Observed<B: Backend> {
    inner: Arc<dyn DataLoader<B, Vec<Sample>>>,
    journal: Journal,
    pass: Pass,
    /// The epoch that begins next.
    epoch: Arc<AtomicU64>,
}

impl<B: Backend> Observed<B> {
    fn over(&self, inner: Arc<dyn DataLoader<B, Vec<Sample>>>) -> Arc<dyn DataLoader<B, MicroBatch>> {
        let (journal, epoch) = (self.journal.clone(), Arc::clone(&self.epoch));
        Arc::new(Self { inner, journal, pass: self.pass, epoch })
    }
}

impl<B: Backend> DataLoader<B, MicroBatch> for Observed<B> {
    fn iter<'a>(&'a self) -> Box<dyn DataLoaderIterator<MicroBatch> + 'a> {
        let epoch = self.epoch.fetch_add(1, Ordering::Relaxed);
        if self.pass == Pass::Training {
            self.journal.note(Epoch::begin(epoch));
        }
        let (journal, pass) = (self.journal.clone(), self.pass);
        Box::new(Walk { inner: self.inner.iter(), journal, pass, epoch, index: 0, taken: Vec::new() })
    }

    fn num_items(&self) -> usize {
        self.inner.num_items()
    }

    fn to_device(&self, device: &B::Device) -> Arc<dyn DataLoader<B, MicroBatch>> {
        self.over(self.inner.to_device(device))
    }

    fn slice(&self, start: usize, end: usize) -> Arc<dyn DataLoader<B, MicroBatch>> {
        self.over(self.inner.slice(start, end))
    }
}

/// One pass over the samples.
struct Walk<'a> {
    inner: Box<dyn DataLoaderIterator<Vec<Sample>> + 'a>,
    journal: Journal,
    pass: Pass,
    epoch: u64,
    index: u64,
    /// Ids of the samples so far.
    taken: Vec<u64>,
}

impl Walk<'_> {
    fn end(&mut self) {
        let taken = std::mem::take(&mut self.taken);
        match self.pass {
            Pass::Training => self.journal.note(Epoch::end(self.epoch)),
            Pass::Evaluation if !taken.is_empty() => self.journal.evaluation_done(taken),
            Pass::Evaluation => {}
        }
    }
}

impl Iterator for Walk<'_> {
    type Item = MicroBatch;

    fn next(&mut self) -> Option<MicroBatch> {
        let Some(samples) = self.inner.next() else {
            self.end();
            return None;
        };
        self.taken.extend(samples.iter().map(|sample| sample.id));
        let index = self.index;
        self.index += 1;
        Some(MicroBatch { epoch: self.epoch, index, samples })
    }
}

impl DataLoaderIterator<MicroBatch> for Walk<'_> {
    fn progress(&self) -> Progress {
        self.inner.progress()
    }
}
