//! Dropout from an explicit random stream, whose position is part of a checkpoint.

use std::collections::HashSet;

use burn::tensor::backend::Backend;
use burn::tensor::{Tensor, TensorData};
use rand::RngCore;
use rand_chacha::ChaCha8Rng;
use traintrue_protocol::digest::Digest;
use traintrue_protocol::number::Number;
use traintrue_protocol::trace::event::{DIGESTED_UNITS, Dropped};

/// Drops units at a rate, while it is active.
pub struct Dropout {
    /// The probability that a unit is dropped.
    pub rate: f64,
    /// On in training, off in evaluation.
    pub active: bool,
    /// The stream that the masks are drawn from.
    pub rng: ChaCha8Rng,
    /// Units dropped since the trainer started.
    pub dropped: u64,
    /// What each dropout did since this was set, where the trace is to have it.
    pub told: Option<Vec<Dropped>>,
    /// Masks drawn in this forward.
    drawn: usize,
}

/// The mask to draw: `units` values, 0 for a dropped unit and the scale of the others.
pub struct Mask {
    /// The probability that a unit is dropped.
    pub rate: f64,
    /// Units in all.
    pub units: usize,
    /// Units of one position.
    pub width: usize,
    /// Masks that this forward has drawn before.
    pub before: usize,
}

/// Draws a mask.
pub type DrawMask = fn(&mut ChaCha8Rng, &Mask) -> Vec<f32>;

impl Dropout {
    /// An active dropout at a rate.
    pub fn new(rate: f64, rng: ChaCha8Rng) -> Self {
        Self { rate, active: true, rng, dropped: 0, told: None, drawn: 0 }
    }

    /// A forward pass begins.
    pub fn forwards(&mut self) {
        self.drawn = 0;
    }

    /// Multiplies `x` by a mask of its shape.
    pub fn apply<B: Backend>(&mut self, x: Tensor<B, 2>, draw: DrawMask) -> Tensor<B, 2> {
        if !self.active || self.rate == 0.0 {
            return x;
        }
        let [positions, width] = x.dims();
        let wanted = Mask { rate: self.rate, units: positions * width, width, before: self.drawn };
        let mask = draw(&mut self.rng, &wanted);
        self.drawn += 1;
        self.dropped += mask.iter().filter(|&&factor| factor == 0.0).count() as u64;
        if let Some(told) = &mut self.told {
            told.push(tell(&mask, width));
        }
        let mask = Tensor::from_data(TensorData::new(mask, [positions, width]), &x.device());
        x * mask
    }
}

/// Each unit is dropped by itself; the others are scaled by `1 / (1 - rate)`, so that their sum is expected to stay.
pub fn bernoulli(rng: &mut ChaCha8Rng, wanted: &Mask) -> Vec<f32> {
    let kept = (1.0 / (1.0 - wanted.rate)) as f32;
    let threshold = (wanted.rate * 4_294_967_296.0) as u32;
    (0..wanted.units).map(|_| if rng.next_u32() >= threshold { kept } else { 0.0 }).collect()
}

fn tell(mask: &[f32], width: usize) -> Dropped {
    let drops = |factors: &[f32]| factors.iter().map(|&factor| u8::from(factor == 0.0)).collect::<Vec<_>>();
    let masks: HashSet<Vec<u8>> = mask.chunks(width).map(drops).collect();
    Dropped {
        units: mask.len() as u64,
        dropped: mask.iter().filter(|&&factor| factor == 0.0).count() as u64,
        scale: Number(f64::from(mask.iter().copied().fold(0.0, f32::max))),
        positions: (mask.len() / width) as u64,
        masks: masks.len() as u64,
        digest: Digest::new().bytes(&drops(&mask[..mask.len().min(DIGESTED_UNITS as usize)])).text(),
    }
}
