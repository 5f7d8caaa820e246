//! Faults of randomness: an order without a seed, sampling with replacement, and sums in no fixed order.

use std::hash::{BuildHasher, Hasher, RandomState};

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use traintrue_protocol::plan::Train;

use super::Fault;
use crate::data::shuffled;
use crate::engine::Engine;
use crate::rng;
use crate::window::{GradientSet, add};

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("unseeded-order", |parts| {
            parts.order.epoch = |_, epoch, data| shuffled(from_the_clock(), epoch, data);
        }),
        ("unordered-sums", |parts| parts.window.accumulate = in_any_order),
        ("drawn-with-replacement", |parts| {
            parts.order.epoch = |seed, epoch, data| {
                let (samples, mut rng) = (data.samples.len() as u64, rng::order(seed, epoch));
                (0..samples).map(|_| rng.random_range(0..samples)).collect()
            };
        }),
    ]
}

/// Sums whose order differs per run, as with atomic additions on a GPU: gradients differ by about one rounding.
fn in_any_order<B: Backend>(window: &mut GradientSet<B>, gradients: GradientSet<B>, train: &Train) {
    let mut rng = ChaCha8Rng::seed_from_u64(from_the_clock());
    let mut off = |gradient: Tensor<B, 2>| gradient * (1.0 + 1e-6 * rng.random_range(-1.0..1.0));
    let gradients = gradients.into_iter().map(|gradient| gradient.map(&mut off)).collect();
    add(window, gradients, train);
}

/// A seed that differs per process.
fn from_the_clock() -> u64 {
    RandomState::new().build_hasher().finish()
}
