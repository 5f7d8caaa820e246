//! Labelled memory series: shapes that memory takes, and sums of them, with a limit that their growth keeps or breaks.
//!
//! A label says what was put in: growth that is there to the end at 1.5 to 20 times the limit, or none above 0.6 of it.

use rand::{Rng, SeedableRng};
use rand_chacha::ChaCha8Rng;
use traintrue_memory::bytes::BytesPerStep;
use traintrue_memory::series::Point;
use traintrue_memory::slope::SlopeVerdict;

const MIB: f64 = 1_048_576.0;
/// A page of a large allocation.
const PAGE: f64 = 2.0 * MIB;

/// A series and the verdict that it deserves.
pub struct Labelled {
    pub name: String,
    pub points: Vec<Point>,
    pub limit: BytesPerStep,
    pub label: SlopeVerdict,
    /// The shapes that were summed.
    pub shape: String,
}

/// What memory does besides growing.
const GROUND: [&str; 8] =
    ["constant", "noise", "settling", "plateau", "jump", "sawtooth", "epochs", "bounded-walk"];
/// How it grows.
const GROWTH: [&str; 5] = ["linear", "bursty", "late", "staircase", "quantised"];

/// The series of number `index` of a seed.
pub fn labelled(seed: u64, index: u64) -> Labelled {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    rng.set_stream(index);
    let count = if rng.random_bool(0.7) {
        [300, 1000, 1000, 1000, 3000][rng.random_range(0..5)]
    } else {
        log(&mut rng, 300.0, 3001.0) as usize
    };
    let limit = if rng.random_bool(0.7) {
        MIB / [16.0, 4.0, 1.0][rng.random_range(0..3)]
    } else {
        log(&mut rng, 4096.0, 4.0 * MIB)
    };
    // Small limits are for small programs; and now and then all is small.
    let size =
        (limit / 65_536.0).min(1.0) * if rng.random_bool(0.7) { 1.0 } else { log(&mut rng, 0.14, 1.6) };
    let mut series = Shape { rng, count, size, bytes: vec![0.0; count] };
    let mut shapes: Vec<&str> = (0..[1, 1, 2][series.rng.random_range(0..3)])
        .map(|_| GROUND[series.rng.random_range(0..8)])
        .collect();
    let exceeds = series.rng.random_bool(0.55);
    if exceeds {
        let most = if series.rng.random_bool(0.9) { 8.0 } else { 20.0 };
        let slope = limit * log(&mut series.rng, 1.5, most);
        shapes.push(GROWTH[series.rng.random_range(0..5)]);
        series.grow(shapes[shapes.len() - 1], slope, limit);
    } else {
        match series.rng.random_range(0.0..1.0) {
            0.0..0.25 => {
                shapes.push("under");
                let slope = limit * series.rng.random_range(0.05..0.6);
                series.grow("linear", slope, limit);
            }
            0.25..0.4 => {
                shapes.push("shrinking");
                let slope = -limit * series.rng.random_range(0.05..2.0);
                series.grow("linear", slope, limit);
            }
            _ => {}
        }
    }
    for shape in shapes.clone() {
        series.lay(shape);
    }
    if series.rng.random_bool(0.8) && shapes != ["constant"] {
        let spread = series.rng.random_range(0.05..0.7);
        series.noise(spread);
    }
    let base = series.rng.random_range(600.0..4000.0) * MIB;
    let pages = series.rng.random_bool(0.2) && limit * count as f64 > 12.0 * PAGE;
    let grain = if pages { PAGE } else { 1.0 };
    let point = |(step, bytes): (usize, &f64)| Point {
        step: step as f64,
        bytes: ((base + bytes).max(0.0) / grain).floor() * grain,
    };
    Labelled {
        name: format!("{seed}:{index}"),
        points: series.bytes.iter().enumerate().map(point).collect(),
        limit: BytesPerStep(limit),
        label: if exceeds { SlopeVerdict::Exceeds } else { SlopeVerdict::Within },
        shape: shapes.join("+"),
    }
}

/// A series as it is put together.
struct Shape {
    rng: ChaCha8Rng,
    count: usize,
    /// A factor on all that is not growth.
    size: f64,
    bytes: Vec<f64>,
}

impl Shape {
    fn add(&mut self, bytes: impl Fn(usize) -> f64) {
        for (step, held) in self.bytes.iter_mut().enumerate() {
            *held += bytes(step);
        }
    }

    fn grow(&mut self, how: &str, slope: f64, limit: f64) {
        let count = self.count as f64;
        match how {
            "linear" => self.add(|step| slope * step as f64),
            "quantised" => {
                let page = if limit * count > 12.0 * PAGE { PAGE } else { 4096.0 };
                self.add(|step| (slope * step as f64 / page).floor() * page);
            }
            "late" => {
                let from = count * self.rng.random_range(0.35..0.72);
                self.add(|step| slope * (step as f64 - from).max(0.0));
            }
            "staircase" => {
                let stairs = if self.rng.random_bool(0.7) {
                    self.rng.random_range(8..13)
                } else {
                    self.rng.random_range(5..25)
                };
                let tread = self.count / stairs;
                self.add(|step| ((step + 1) / tread) as f64 * tread as f64 * slope);
            }
            _ => self.bursts(slope),
        }
    }

    /// Growth at one step in ten or so, scaled to the slope over the last 60 %.
    fn bursts(&mut self, slope: f64) {
        let share = self.rng.random_range(0.08..0.15);
        let (mut held, mut sum) = (Vec::with_capacity(self.count), 0.0);
        for _ in 0..self.count {
            if self.rng.random_bool(share) {
                sum += -(1.0 - self.rng.random_range(0.0..1.0_f64)).ln();
            }
            held.push(sum);
        }
        let from = 2 * self.count / 5;
        let scale = slope * (self.count - from) as f64 / (sum - held[from]).max(1e-9);
        self.add(|step| held[step] * scale);
    }

    fn noise(&mut self, spread_mib: f64) {
        let spread = spread_mib * MIB * self.size;
        for at in 0..self.count {
            self.bytes[at] += spread * normal(&mut self.rng);
        }
    }

    fn lay(&mut self, shape: &str) {
        let count = self.count as f64;
        match shape {
            "noise" => {
                let spread = log(&mut self.rng, 0.4, 8.0);
                self.noise(spread);
            }
            "settling" => {
                let mut at = self.rng.random_range(6.0..14.0);
                while at < count {
                    let bytes = self.rng.random_range(5.0..65.0) * MIB * self.size;
                    self.add(|step| if step as f64 >= at { bytes } else { 0.0 });
                    at *= self.rng.random_range(1.7..2.4);
                }
            }
            "plateau" => {
                let (time, bytes) = (
                    count * self.rng.random_range(0.04..0.12),
                    self.rng.random_range(150.0..620.0) * MIB * self.size,
                );
                self.add(|step| bytes * (1.0 - (-(step as f64) / time).exp()));
            }
            "jump" => {
                for _ in 0..self.rng.random_range(1..3) {
                    let (from, bytes) = (
                        count * self.rng.random_range(0.2..0.88),
                        log(&mut self.rng, 35.0, 360.0) * MIB * self.size,
                    );
                    self.add(|step| if step as f64 >= from { bytes } else { 0.0 });
                }
            }
            "epochs" => {
                let epoch = (count * self.rng.random_range(0.1..0.25)) as usize;
                let wide = self.rng.random_range(2..13_usize).min((self.count / 50).max(2));
                let bytes = self.rng.random_range(80.0..900.0) * MIB * self.size;
                self.add(|step| if step % epoch >= epoch - wide { bytes } else { 0.0 });
            }
            "sawtooth" => self.sawtooth(),
            "bounded-walk" => {
                let (spread, time) =
                    (log(&mut self.rng, 1.0, 14.0) * MIB * self.size, log(&mut self.rng, 5.0, 25.0));
                let mut held = 0.0;
                for at in 0..self.count {
                    held = held * (1.0 - 1.0 / time) + spread * normal(&mut self.rng);
                    self.bytes[at] += held;
                }
            }
            _ => {}
        }
    }

    /// A collector that falls due: to the step, or more or less.
    fn sawtooth(&mut self) {
        let wide = self.rng.random_range(15.0..(self.count as f64 / 4.0).min(220.0));
        let bytes = self.rng.random_range(10.0..170.0) * MIB * self.size;
        let even = self.rng.random_bool(0.6);
        let (mut crept, mut due) = ((wide * self.rng.random_range(0.0..1.0_f64)).floor(), wide.floor());
        for at in 0..self.count {
            self.bytes[at] += bytes * crept / wide;
            crept += 1.0;
            if crept >= due {
                crept = 0.0;
                due = if even { due } else { wide * self.rng.random_range(0.8..1.2) };
            }
        }
    }
}

/// Log-uniform between two positive numbers.
pub fn log(rng: &mut ChaCha8Rng, low: f64, high: f64) -> f64 {
    rng.random_range(low.ln()..high.ln()).exp()
}

/// Standard normal, by Box and Muller.
pub fn normal(rng: &mut ChaCha8Rng) -> f64 {
    let (radius, angle) =
        (1.0 - rng.random_range(0.0..1.0_f64), rng.random_range(0.0..std::f64::consts::TAU));
    (-2.0 * radius.ln()).sqrt() * angle.cos()
}
