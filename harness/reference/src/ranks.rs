//! The other ranks of a training: how their gradients become one mean, and what else they must agree on.

mod gathering;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use traintrue_protocol::plan::Train;

use crate::data::{Batch, Counts};
use crate::model::to_vec;
use crate::window::GradientSet;

pub use gathering::{Ranks, RanksError};

/// The summed loss of a batch, and its weight.
type Summed = (f64, u64);

/// What depends on the rank, and what must not.
pub struct RankParts<B: Backend> {
    /// The seed of a rank's initial weights: the plan's, so that all ranks begin with one model.
    pub weights_seed: fn(seed: u64, rank: u64) -> u64,
    /// The rank whose stream dropout draws from: its own, so that no two ranks drop the same units.
    pub draws_as: fn(rank: u64) -> u64,
    /// What the losses of a window are divided by: the counts of the windows of all ranks.
    pub totals: fn(own: Counts, all: Counts) -> Counts,
    /// Whether the gradients of a micro-batch, the so-and-so-many-th of its window from 0, are added to it: always.
    pub adds: fn(index: u64, closes: bool) -> bool,
    /// Whether the ranks average after a micro-batch: where it closes the window.
    pub averages: fn(closes: bool) -> bool,
    /// What a rank does to its own gradients before they are averaged: nothing.
    pub before: fn(&mut GradientSet<B>, &Train),
    /// The gradients that a rank goes on with, from those of all ranks in their order.
    pub mean: fn(all: Vec<GradientSet<B>>, rank: usize) -> GradientSet<B>,
    /// A rank's share of the batches of an evaluation.
    pub evaluates: fn(Vec<Batch>, rank: usize, world: usize) -> Vec<Batch>,
    /// The sums and weights that a metric is made of: those of all ranks.
    pub measures: fn(own: Vec<Summed>, all: Vec<Summed>) -> Vec<Summed>,
    /// The rank whose part of a checkpoint is loaded: its own.
    pub loads_as: fn(rank: u64) -> u64,
}

impl<B: Backend> Default for RankParts<B> {
    fn default() -> Self {
        Self {
            weights_seed: |seed, _| seed,
            draws_as: |rank| rank,
            totals: |_, all| all,
            adds: |_, _| true,
            averages: |closes| closes,
            before: |_, _| {},
            mean: |all, _| mean(all),
            evaluates: |batches, rank, world| batches.into_iter().skip(rank).step_by(world).collect(),
            measures: |_, all| all,
            loads_as: |rank| rank,
        }
    }
}

/// The sum in the order of the ranks, divided by their number. Every rank adds in this order, so all get the same bits.
pub fn mean<B: Backend>(all: Vec<GradientSet<B>>) -> GradientSet<B> {
    let count = all.len() as f64;
    sum(all).into_iter().map(|gradient| gradient.map(|it| it / count)).collect()
}

/// The sum in the order of the ranks.
pub fn sum<B: Backend>(all: Vec<GradientSet<B>>) -> GradientSet<B> {
    let add = |one: GradientSet<B>, other: GradientSet<B>| {
        let pairs = one.into_iter().zip(other);
        pairs.map(|(one, other)| one.zip(other).map(|(one, other)| one + other)).collect()
    };
    all.into_iter().reduce(add).unwrap_or_default()
}

impl Ranks {
    /// The gradients of all ranks, in their order. Fails where a rank is gone, late, or elsewhere.
    pub fn gradients<B: Backend>(
        &mut self,
        at: &str,
        own: &GradientSet<B>,
    ) -> Result<Vec<GradientSet<B>>, RanksError> {
        let values: Vec<f64> =
            own.iter().flatten().flat_map(|it| to_vec(it.clone())).map(f64::from).collect();
        let all = self.gather(at, &values)?;
        Ok(all.iter().map(|values| like(own, values)).collect())
    }

    /// The counts of all ranks together.
    pub fn counts(&mut self, at: &str, own: Counts) -> Result<Counts, RanksError> {
        let Counts { micro_batches, rows, positions, tokens, targets, samples } = own;
        // Counts stay far below 2^53, so that no double rounds them.
        let own = [micro_batches, rows, positions, tokens, targets, samples].map(|it| it as f64);
        let of_all = self.gather(at, &own)?.into_iter().map(|values| {
            let count = |at: usize| values.get(at).map_or(0, |it| *it as u64);
            Counts {
                micro_batches: count(0),
                rows: count(1),
                positions: count(2),
                tokens: count(3),
                targets: count(4),
                samples: count(5),
            }
        });
        Ok(of_all.fold(Counts::default(), Counts::and))
    }

    /// The summed losses of all ranks' batches, each with its weight.
    pub fn losses(&mut self, at: &str, own: &[Summed]) -> Result<Vec<Summed>, RanksError> {
        let values: Vec<f64> = own.iter().flat_map(|&(sum, weight)| [sum, weight as f64]).collect();
        let all = self.gather(at, &values)?.concat();
        Ok(all.chunks_exact(2).map(|pair| (pair[0], pair[1] as u64)).collect())
    }
}

/// Gradients of the shapes of `own` with these values.
fn like<B: Backend>(own: &GradientSet<B>, values: &[f64]) -> GradientSet<B> {
    let mut left = values;
    let mut next = |one: &Tensor<B, 2>| {
        let (taken, rest) = left.split_at(one.shape().num_elements().min(left.len()));
        left = rest;
        let values: Vec<f32> = taken.iter().map(|&it| it as f32).collect();
        Tensor::from_data(TensorData::new(values, one.dims()), &one.device())
    };
    own.iter().map(|gradient| gradient.as_ref().map(&mut next)).collect()
}
