//! The fault of seeding: an order that no seed decides.

use std::hash::{BuildHasher, Hasher, RandomState};

use rand::seq::SliceRandom;

use super::Fault;
use crate::engine::Engine;
use crate::rng;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![("unseeded-order", |parts| {
        parts.order.epoch = |_, epoch, data| {
            let mut ids: Vec<u64> = (0..data.samples.len() as u64).collect();
            ids.shuffle(&mut rng::order(RandomState::new().build_hasher().finish(), epoch));
            ids
        };
    })]
}
