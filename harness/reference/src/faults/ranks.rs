//! Faults of ranks that train together: what they average, what each draws and reads, and what they share on disk.

use burn::tensor::backend::Backend;

use super::Fault;
use crate::data::{Counts, in_order, shuffled};
use crate::engine::Engine;
use crate::optimizer::clip_global;
use crate::ranks::{mean, sum};
use crate::window::GradientSet;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("ranks-divide-by-their-own", |parts| {
            // What DDP does with the mean loss of each rank.
            parts.ranks.totals = |own, all| Counts {
                targets: own.targets * all.micro_batches / own.micro_batches.max(1),
                samples: own.samples * all.micro_batches / own.micro_batches.max(1),
                ..all
            };
        }),
        ("ranks-summed", |parts| parts.ranks.mean = |all, _| sum(all)),
        ("ranks-averaged-twice", |parts| {
            parts.ranks.mean = |all, _| {
                let count = all.len() as f64;
                mean(all).into_iter().map(|gradient| gradient.map(|it| it / count)).collect()
            };
        }),
        ("ranks-never-averaged", |parts| parts.ranks.averages = |_| false),
        ("ranks-averaged-before-the-last", |parts| parts.ranks.averages = |closes| !closes),
        ("rank-0-gives-its-own", |parts| {
            parts.ranks.mean = |all, _| all.into_iter().next().unwrap_or_default()
        }),
        ("middle-micro-batches-lost", |parts| parts.ranks.adds = |index, closes| index == 0 || closes),
        ("clipped-before-the-mean", |parts| parts.ranks.before = |own, train| clip_global(own, train.clip)),
        ("tensors-averaged-in-another-order", |parts| {
            parts.ranks.mean = |mut all, _| {
                all.iter_mut().skip(1).for_each(turned);
                mean(all)
            };
        }),
        ("frozen-on-one-rank", |parts| {
            parts.ranks.mean = |all, rank| {
                let mut gradients = mean(all);
                if rank == 1 {
                    // A bias, which does not decay: nothing else moves it.
                    gradients.iter_mut().rev().skip(1).take(1).for_each(|bias| *bias = None);
                }
                gradients
            };
        }),
        ("ranks-begin-differently", |parts| parts.ranks.weights_seed = |seed, rank| seed + rank),
        ("ranks-drop-the-same", |parts| parts.ranks.draws_as = |_| 0),
        ("every-rank-the-same-shard", |parts| parts.order.rank = |_| 0),
        ("shards-padded-with-repeats", |parts| {
            // Each epoch is filled up until all ranks have equally many, and what fills it up is trained again.
            parts.order.epoch = |seed, epoch, data| {
                let ids = if data.shuffle { shuffled(seed, epoch, data) } else { in_order(data) };
                let again = ids.clone();
                [ids, again].concat()
            };
            parts.order.share = |all, train| all.div_ceil(train.world);
        }),
        ("one-rank-has-more", |parts| {
            parts.order.share = |all, train| (all + train.world - 1 - train.rank) / train.world;
        }),
        ("schedule-steps-on-rank-0-alone", |parts| {
            parts.unchanged.steps_per_update = |train| u64::from(train.rank == 0);
        }),
        ("ranks-load-the-state-of-rank-0", |parts| parts.ranks.loads_as = |_| 0),
        ("evaluation-of-one-share", |parts| parts.ranks.measures = |own, _| own),
        ("evaluation-padded-with-repeats", |parts| {
            parts.ranks.evaluates = |mut batches, rank, world| {
                let missing = batches.len().next_multiple_of(world) - batches.len();
                batches.extend_from_within(..missing);
                batches.into_iter().skip(rank).step_by(world).collect()
            };
        }),
        ("every-rank-evaluates-all", |parts| parts.ranks.evaluates = |batches, _, _| batches),
    ]
}

/// Tensors of one shape in each other's places, as where a rank walks its parameters in another order.
fn turned<B: Backend>(gradients: &mut GradientSet<B>) {
    let before = gradients.clone();
    let dims = |at: usize| before[at].as_ref().map(|it| it.dims());
    for (at, gradient) in gradients.iter_mut().enumerate() {
        let next =
            (1..before.len()).map(|step| (at + step) % before.len()).find(|&other| dims(other) == dims(at));
        if let Some(other) = next {
            gradient.clone_from(&before[other]);
        }
    }
}
