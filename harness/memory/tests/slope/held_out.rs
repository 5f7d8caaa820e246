//! A second source of labelled series, by which no constant was first set, though its failures were looked at: the shapes
//! that memory takes, drawn in multiples of what the limit allows over the whole run.
//!
//! Where `labelled` follows the recorded series, this one takes other distributions, other wandering (of one to sixty steps'
//! memory, now and then with jumps of its own), heavier tails, uneven stairs, and more shapes at once.

use rand::seq::SliceRandom;
use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use traintrue_memory::bytes::BytesPerStep;
use traintrue_memory::series::Point;
use traintrue_memory::slope::SlopeVerdict;

use super::labelled::{Labelled, log, normal};

/// What memory does besides growing.
const GROUND: [&str; 8] =
    ["flat", "warm-up", "rarer-steps", "late-jump", "collector", "epoch-spikes", "wandering", "heavy-noise"];
/// How it grows.
const GROWTH: [&str; 5] = ["straight", "from-half-way", "stairs", "random-bursts", "mostly-straight"];
/// Pages, in bytes.
const PAGES: [f64; 3] = [4096.0, 65_536.0, 2_097_152.0];

/// The series of number `index` of a seed.
pub fn held_out(seed: u64, index: u64) -> Labelled {
    let mut rng = ChaCha8Rng::seed_from_u64(seed ^ 0x5eed);
    rng.set_stream(index);
    let count = log(&mut rng, 300.0, 3001.0) as usize;
    let limit = 1024.0 * 2.0_f64.powf(rng.random_range(0.0..13.0));
    let allowed = limit * count as f64;
    let mut held = Held { rng, count, allowed, bytes: vec![0.0; count] };
    let many = [1, 1, 1, 2, 2, 3][held.rng.random_range(0..6)];
    let mut shapes = GROUND.to_vec();
    shapes.shuffle(&mut held.rng);
    shapes.truncate(many);
    for shape in &shapes {
        held.lay(shape);
    }
    let exceeds = held.rng.random_bool(0.5);
    if exceeds {
        let (how, times) = (GROWTH[held.rng.random_range(0..5)], log(&mut held.rng, 1.5, 12.0));
        held.grow(how, times * limit);
        shapes.push(how);
    } else if held.rng.random_bool(0.4) {
        let times = held.rng.random_range(-1.0..0.6);
        held.add(|step| times * limit * step as f64);
        shapes.push("allowed");
    }
    let spread = allowed * log(&mut held.rng, 0.0003, 0.02);
    held.jitter(spread, 1.0);
    let page = PAGES[held.rng.random_range(0..3)];
    let page = if page * 10.0 < allowed { page } else { 1.0 };
    let floor = held.bytes.iter().copied().fold(0.0, f64::min);
    let base = held.rng.random_range(0.5..20.0) * allowed - floor;
    let stored = |(step, bytes): (usize, &f64)| Point {
        step: step as f64,
        bytes: ((base + bytes) / page).ceil() * page,
    };
    Labelled {
        name: format!("held-out {seed}:{index}"),
        points: held.bytes.iter().enumerate().map(stored).collect(),
        limit: BytesPerStep(limit),
        label: if exceeds { SlopeVerdict::Exceeds } else { SlopeVerdict::Within },
        shape: shapes.join("+"),
    }
}

/// A series as it is put together.
struct Held {
    rng: ChaCha8Rng,
    count: usize,
    /// What the limit allows over the whole run.
    allowed: f64,
    bytes: Vec<f64>,
}

impl Held {
    fn add(&mut self, bytes: impl Fn(usize) -> f64) {
        for (step, held) in self.bytes.iter_mut().enumerate() {
            *held += bytes(step);
        }
    }

    fn jump(&mut self, at: f64, bytes: f64) {
        self.add(|step| if step as f64 >= at { bytes } else { 0.0 });
    }

    /// Noise whose memory is `time` steps, of this spread.
    fn jitter(&mut self, spread: f64, time: f64) {
        let keep = (-1.0 / time).exp() * f64::from(time > 1.0);
        let mut held = spread * normal(&mut self.rng);
        for at in 0..self.count {
            self.bytes[at] += held;
            held = keep * held + spread * (1.0 - keep * keep).sqrt() * normal(&mut self.rng);
        }
    }

    fn grow(&mut self, how: &str, slope: f64) {
        let count = self.count as f64;
        match how {
            "from-half-way" => {
                let from = count * self.rng.random_range(0.3..0.7);
                self.add(|step| slope * (step as f64 - from).max(0.0));
            }
            "stairs" => {
                // Treads and heights vary by some per cent; the mean growth is the slope.
                let (tread, vary) =
                    (count / self.rng.random_range(7.0..30.0), self.rng.random_range(0.0..0.15));
                let mut at = tread * self.rng.random_range(0.1..1.0_f64);
                while at < count {
                    let height = slope * tread * (1.0 + vary * normal(&mut self.rng)).max(0.2);
                    self.jump(at, height);
                    at += tread * (1.0 + vary * normal(&mut self.rng)).clamp(0.5, 1.5);
                }
            }
            "random-bursts" => {
                // A leak in a branch that is taken now and then, of sizes that vary: it is the slope over the last 60 %.
                let wait = (count / self.rng.random_range(25.0..120.0)).max(2.0);
                let (mut held, mut leaked) = (0.0, Vec::with_capacity(self.count));
                for _ in 0..self.count {
                    held += f64::from(self.rng.random_bool(1.0 / wait)) * self.rng.random_range(0.3..1.7);
                    leaked.push(held);
                }
                let from = 2 * self.count / 5;
                let scale = slope * (self.count - from) as f64 / (held - leaked[from]).max(1.0);
                self.add(|step| leaked[step] * scale);
            }
            "mostly-straight" => {
                let missed = self.rng.random_range(0.0..0.5);
                let mut held = 0.0;
                for at in 0..self.count {
                    held += if self.rng.random_bool(1.0 - missed) { slope / (1.0 - missed) } else { 0.0 };
                    self.bytes[at] += held;
                }
            }
            _ => self.add(|step| slope * step as f64),
        }
    }

    fn lay(&mut self, shape: &str) {
        let (count, allowed) = (self.count as f64, self.allowed);
        match shape {
            "warm-up" => {
                let time = count * self.rng.random_range(0.01..0.1);
                let bytes = allowed * log(&mut self.rng, 0.3, 10.0);
                self.add(|step| bytes * (1.0 - (-(step as f64) / time).exp()));
            }
            "rarer-steps" => {
                let (mut at, apart) = (self.rng.random_range(3.0..20.0), self.rng.random_range(1.6..3.0));
                while at < count {
                    let bytes = allowed * log(&mut self.rng, 0.1, 1.5);
                    self.jump(at, bytes);
                    at *= apart;
                }
            }
            "late-jump" => {
                let (at, bytes) =
                    (count * self.rng.random_range(0.5..0.95), allowed * log(&mut self.rng, 0.2, 5.0));
                self.jump(at, bytes);
            }
            "collector" => self.collector(),
            "epoch-spikes" => {
                let epoch = (count / self.rng.random_range(3.0..12.0)) as usize;
                let wide = self.rng.random_range(1..(epoch / 6).clamp(2, 20));
                let bytes = allowed * log(&mut self.rng, 0.2, 8.0);
                self.add(|step| if step % epoch >= epoch - wide { bytes } else { 0.0 });
            }
            "wandering" => {
                let time = log(&mut self.rng, 1.5, (count / 40.0).min(60.0));
                let spread = allowed * log(&mut self.rng, 0.003, 0.05);
                self.jitter(spread, time);
            }
            "heavy-noise" => {
                // Student's t with 3 degrees of freedom.
                let spread = allowed * log(&mut self.rng, 0.002, 0.02);
                for at in 0..self.count {
                    let power: f64 = (0..3).map(|_| normal(&mut self.rng).powi(2)).sum();
                    self.bytes[at] += spread * normal(&mut self.rng) / (power / 3.0).sqrt();
                }
            }
            _ => {}
        }
    }

    /// A collector that runs when enough has crept in: at once, or in a few steps, to the bottom or nearly.
    fn collector(&mut self) {
        let wide = log(&mut self.rng, 8.0, (self.count as f64 / 4.0).min(221.0));
        let bytes = self.allowed * log(&mut self.rng, 0.05, 2.0);
        let (vary, left) = (self.rng.random_range(0.0..0.2), self.rng.random_range(0.0..0.2));
        let mut crept = bytes * self.rng.random_range(0.0..1.0);
        let mut due = bytes;
        for at in 0..self.count {
            self.bytes[at] += crept;
            crept += bytes / wide;
            if crept >= due {
                crept = bytes * left * self.rng.random_range(0.0..1.0);
                due = bytes * (1.0 + vary * self.rng.random_range(-1.0..1.0));
            }
        }
    }
}
