//! Faults of data: an order that is not the plan's, rows that are not the samples, and labels that are not the next tokens.

use rand::Rng;
use rand::seq::SliceRandom;
use traintrue_protocol::plan::Side;

use super::Fault;
use crate::data::{in_order, shuffled};
use crate::engine::Engine;
use crate::rng;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("same-order-every-epoch", |parts| parts.order.epoch = |seed, _, data| shuffled(seed, 0, data)),
        ("never-shuffles", |parts| parts.order.epoch = |_, _, data| in_order(data)),
        ("always-shuffles", |parts| parts.order.epoch = shuffled),
        ("begins-elsewhere-for-a-shuffle", |parts| {
            parts.order.epoch = |seed, epoch, data| {
                let mut ids = in_order(data);
                let first = rng::order(seed, epoch).random_range(1..ids.len());
                ids.rotate_left(first);
                ids
            };
        }),
        ("shuffles-whole-batches", |parts| {
            parts.order.epoch = |seed, epoch, data| {
                let ids = in_order(data);
                let whole = ids.chunks_exact(data.batch as usize);
                let rest = whole.remainder().to_vec();
                let mut batches: Vec<&[u64]> = whole.collect();
                batches.shuffle(&mut rng::order(seed, epoch));
                [batches.concat(), rest].concat()
            };
        }),
        ("seed-ignored", |parts| {
            parts.order.epoch = |_, epoch, data| match data.shuffle {
                true => shuffled(0, epoch, data),
                false => in_order(data),
            };
        }),
        ("drop-last-ignored", |parts| {
            parts.order.micro_batches = |data, batch| (data.samples.len() as u64).div_ceil(batch);
        }),
        ("truncation-loses-the-end-token", |parts| {
            parts.collate.truncate = |sample, most| sample[..most.min(sample.len())].to_vec();
        }),
        ("truncation-from-the-left", |parts| {
            parts.collate.truncate = |sample, most| sample[sample.len().saturating_sub(most)..].to_vec();
        }),
        ("truncation-one-short", |parts| {
            parts.collate.truncate = |sample, most| match sample {
                [begin @ .., last] if sample.len() > most => [&begin[..most - 2], &[*last]].concat(),
                _ => sample.to_vec(),
            };
        }),
        ("padding-side-ignored", |parts| parts.collate.side = |_| Side::Right),
        ("labels-not-shifted", |parts| parts.collate.target = |ids, at| Some(ids[at])),
        ("labels-shifted-twice", |parts| parts.collate.target = |ids, at| ids.get(at + 2).copied()),
    ]
}
