//! The samples of each micro-batch: a seeded order per epoch, divided among the ranks.

use rand::seq::SliceRandom;
use traintrue_protocol::plan::{Data, Train};

use crate::rng;

/// The parts that decide the order.
#[derive(Clone, Copy)]
pub struct OrderParts {
    /// Sample ids in the order of one epoch.
    pub epoch: fn(seed: u64, epoch: u64, data: &Data) -> Vec<u64>,
    /// Micro-batches of an epoch, over all ranks, in batches of this size.
    pub micro_batches: fn(data: &Data, batch: u64) -> u64,
    /// Those of one rank.
    pub share: fn(all: u64, train: &Train) -> u64,
    /// The rank whose share is taken: its own.
    pub rank: fn(&Train) -> u64,
}

impl Default for OrderParts {
    fn default() -> Self {
        Self {
            epoch: seeded_by_epoch,
            micro_batches,
            share: |all, train| all / train.world,
            rank: |train| train.rank,
        }
    }
}

fn seeded_by_epoch(seed: u64, epoch: u64, data: &Data) -> Vec<u64> {
    if data.shuffle { shuffled(seed, epoch, data) } else { in_order(data) }
}

/// The sample ids in the order that this seed gives an epoch.
pub fn shuffled(seed: u64, epoch: u64, data: &Data) -> Vec<u64> {
    let mut ids = in_order(data);
    ids.shuffle(&mut rng::order(seed, epoch));
    ids
}

/// The sample ids in the order of the dataset.
pub fn in_order(data: &Data) -> Vec<u64> {
    (0..data.samples.len() as u64).collect()
}

fn micro_batches(data: &Data, batch: u64) -> u64 {
    let samples = data.samples.len() as u64;
    if data.drop_last { samples / batch } else { samples.div_ceil(batch) }
}

/// This rank's share of each epoch. Ranks take micro-batches in turn. Every rank gets equally many, so micro-batches at the
/// end of an epoch that do not reach every rank are left out.
pub struct Shard {
    parts: OrderParts,
    seed: u64,
    train: Train,
    /// Samples per micro-batch.
    batch: u64,
    /// Micro-batches of this rank per epoch.
    pub micro_batches: u64,
    drawn: Vec<(u64, Vec<u64>)>,
}

impl Shard {
    /// The share of `train.rank` of `train.world`, in micro-batches of the plan's size.
    pub fn new(parts: OrderParts, seed: u64, data: &Data, train: &Train) -> Self {
        let mut shard =
            Self { parts, seed, train: train.clone(), batch: 0, micro_batches: 0, drawn: Vec::new() };
        shard.regroup(data, data.batch);
        shard
    }

    /// The same share in micro-batches of another size.
    pub fn regroup(&mut self, data: &Data, batch: u64) {
        let all = (self.parts.micro_batches)(data, batch);
        (self.batch, self.micro_batches) = (batch, (self.parts.share)(all, &self.train));
    }

    /// The samples of micro-batch `index` of `epoch`.
    pub fn samples(&mut self, data: &Data, epoch: u64, index: u64) -> &[u64] {
        let order = self.order(data, epoch);
        let rank = (self.parts.rank)(&self.train);
        let first = ((index * self.train.world + rank) * self.batch) as usize;
        let last = (first + self.batch as usize).min(self.drawn[order].1.len());
        &self.drawn[order].1[first..last]
    }

    /// Two epochs are kept: a window that continues over the end of an epoch looks ahead into the next one.
    fn order(&mut self, data: &Data, epoch: u64) -> usize {
        if let Some(found) = self.drawn.iter().position(|(drawn, _)| *drawn == epoch) {
            return found;
        }
        self.drawn.retain(|(drawn, _)| drawn + 1 == epoch);
        self.drawn.push((epoch, (self.parts.epoch)(self.seed, epoch, data)));
        self.drawn.len() - 1
    }
}
