//! The random streams of initial weights, data order and dropout. There is no global generator.
//!
//! Each use has its own stream of the plan's seed, so one use does not change another. A checkpoint saves only dropout's
//! position: weights are drawn once, and each epoch's order is drawn from the epoch's number.

use rand::{RngCore, SeedableRng};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

const BASE: u64 = 1;
const ADAPTERS: u64 = 2;
/// Rank `r` draws its dropout from the stream `DROPOUT + r`.
const DROPOUT: u64 = 3;
const OPERATIONS: u64 = 1 << 31;
/// Epoch `e` draws its order from the stream `ORDER + e`.
const ORDER: u64 = 1 << 32;

fn stream(seed: u64, number: u64) -> ChaCha8Rng {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(number);
    rng
}

/// The stream of the base model's initial weights.
pub fn base_weights(seed: u64) -> ChaCha8Rng {
    stream(seed, BASE)
}

/// The stream of the initial weights of adapters and heads. Separate, so that the base is the same with and without them.
pub fn added_weights(seed: u64) -> ChaCha8Rng {
    stream(seed, ADAPTERS)
}

/// The stream of one rank's dropout.
pub fn dropout(seed: u64, rank: u64) -> ChaCha8Rng {
    stream(seed, DROPOUT + rank)
}

/// The stream of the values that single operations get.
pub fn operations(seed: u64) -> ChaCha8Rng {
    stream(seed, OPERATIONS)
}

/// The stream of one epoch's data order.
pub fn order(seed: u64, epoch: u64) -> ChaCha8Rng {
    stream(seed, ORDER + epoch)
}

/// The position of a stream, as a checkpoint saves it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Position {
    /// Words drawn, high and low half: the count has 68 bits, and a JSON number has 64.
    words: [u64; 2],
    /// The stream that they were drawn from.
    stream: u64,
}

impl Position {
    /// The position of `rng`.
    pub fn of(rng: &ChaCha8Rng) -> Self {
        let at = rng.get_word_pos();
        Self { words: [(at >> 64) as u64, at as u64], stream: rng.get_stream() }
    }

    /// Moves `rng` to this position.
    pub fn restore(self, rng: &mut ChaCha8Rng) {
        rng.set_stream(self.stream);
        rng.set_word_pos((u128::from(self.words[0]) << 64) | u128::from(self.words[1]));
    }
}

/// `count` draws from a normal distribution of this standard deviation (Box and Muller).
pub fn normal(rng: &mut ChaCha8Rng, count: usize, deviation: f64) -> Vec<f32> {
    let unit = |word: u32| (f64::from(word) + 0.5) / 4_294_967_296.0;
    (0..count)
        .map(|_| {
            let radius = (-2.0 * unit(rng.next_u32()).ln()).sqrt();
            let angle = std::f64::consts::TAU * unit(rng.next_u32());
            (deviation * radius * angle.cos()) as f32
        })
        .collect()
}
