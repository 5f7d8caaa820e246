//! Faults of the order: one that no seed decides, and one that is no order.

use std::hash::{BuildHasher, Hasher, RandomState};

use rand::Rng;
use rand::seq::SliceRandom;

use super::Fault;
use crate::engine::Engine;
use crate::rng;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("unseeded-order", |parts| {
            parts.order.epoch = |_, epoch, data| {
                let mut ids: Vec<u64> = (0..data.samples.len() as u64).collect();
                ids.shuffle(&mut rng::order(RandomState::new().build_hasher().finish(), epoch));
                ids
            };
        }),
        ("drawn-with-replacement", |parts| {
            parts.order.epoch = |seed, epoch, data| {
                let (samples, mut rng) = (data.samples.len() as u64, rng::order(seed, epoch));
                (0..samples).map(|_| rng.random_range(0..samples)).collect()
            };
        }),
    ]
}
