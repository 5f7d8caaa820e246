//! Random numbers: seeded by hand, for candle's generator on the CPU cannot be.

use std::cell::Cell;

use candle_core::{Device, Result, Tensor, Var};
use rand::rngs::StdRng;
use rand::{Rng, SeedableRng};
use traintrue_protocol::digest::Digest;

use crate::Random;
use crate::model::Pass;

/// What random numbers are drawn for: each purpose has streams of its own.
#[derive(Clone, Copy)]
pub enum Purpose {
    Order = 1,
    Weights = 2,
    Dropout = 3,
}

/// A stream of one purpose, by number.
pub fn stream(seed: u64, purpose: Purpose, number: u64) -> StdRng {
    let mut key = [0; 32];
    let words = [seed, purpose as u64, number];
    for (bytes, word) in key.chunks_exact_mut(8).zip(words) {
        bytes.copy_from_slice(&word.to_le_bytes());
    }
    StdRng::from_seed(key)
}

/// Draws a matrix anew, uniformly, as wide as its inputs ask for; what candle drew into it is gone.
pub fn draw(matrix: &Var, seed: u64, number: u64) -> Result<()> {
    let mut rng = stream(seed, Purpose::Weights, number);
    let bound = 1.0 / (*matrix.dims().last().unwrap_or(&1) as f32).sqrt();
    let values: Vec<f32> = (0..matrix.elem_count()).map(|_| rng.random_range(-bound..bound)).collect();
    matrix.set(&Tensor::from_vec(values, matrix.shape(), matrix.device())?)
}

/// Dropout that counts.
pub struct Dropout {
    rate: f64,
    random: Random,
    seed: u64,
    /// Masks drawn so far: the place in the stream.
    pub drawn: Cell<u64>,
    /// Units dropped so far.
    pub dropped: Cell<u64>,
}

impl Dropout {
    /// Dropout that has drawn so many masks already.
    pub fn new(rate: f64, random: Random, seed: u64, drawn: u64) -> Self {
        Self { rate, random, seed, drawn: Cell::new(drawn), dropped: Cell::new(0) }
    }

    /// The values, some of them dropped where the model trains.
    pub fn forward(&self, x: &Tensor, pass: Pass) -> Result<Tensor> {
        if pass == Pass::Outside || self.rate == 0.0 {
            return Ok(x.clone());
        }
        if self.random == Random::Candle {
            return candle_nn::ops::dropout(x, self.rate as f32);
        }
        let mut rng = stream(self.seed, Purpose::Dropout, self.drawn.replace(self.drawn.get() + 1));
        let kept = (1.0 / (1.0 - self.rate)) as f32;
        let unit = |_| if rng.random_bool(self.rate) { 0.0 } else { kept };
        let mask: Vec<f32> = (0..x.elem_count()).map(unit).collect();
        self.dropped.set(self.dropped.get() + mask.iter().filter(|&&it| it == 0.0).count() as u64);
        x * Tensor::from_vec(mask, x.shape(), &Device::Cpu)?
    }

    /// The place in the stream; candle's own has none that can be read.
    pub fn digest(&self) -> Option<String> {
        let place = [self.seed, self.drawn.get()].map(u64::to_le_bytes).concat();
        (self.random == Random::Seeded).then(|| Digest::new().bytes(&place).text())
    }
}
