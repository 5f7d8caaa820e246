//! A trainer in plain Rust, with no framework: the next token's number from this one's, by linear regression.
//!
//!     cargo build -p traintrue --example linear_regression
//!     traintrue run determinism --trainer target/debug/examples/linear_regression
//!
//! It has no capabilities, and the default contract. `resumable.rs` is the same model in a loop that has all of a real one.

use std::hash::{BuildHasher, BuildHasherDefault, DefaultHasher};

use traintrue::digest::Digest;
use traintrue::plan::{ScheduleName, Train};
use traintrue::trace::event::{Epoch, Loss, MicroBatch, Update};
use traintrue::{Plan, Recorder, Trainer, TrainerError};

/// The trainer, and the hash that puts the samples of an epoch in order.
#[derive(Default)]
pub struct LinearRegression<S = BuildHasherDefault<DefaultHasher>>(pub S);

impl<S: BuildHasher> Trainer for LinearRegression<S> {
    fn run(&mut self, plan: &Plan, recorder: &mut Recorder) -> Result<(), TrainerError> {
        let (batch, window) = (plan.data.batch as usize, plan.train.accumulation as usize);
        let samples = plan.data.samples.len();
        let per_epoch = if plan.data.drop_last { samples / batch } else { samples.div_ceil(batch) };
        let updates = per_epoch.div_ceil(window) as u64 * plan.data.epochs;
        let ([mut slope, mut intercept], mut step) = ([0.0; 2], 0);
        for epoch in 0..plan.data.epochs {
            recorder.write(|| Epoch::begin(epoch))?;
            let mut order: Vec<u64> = (0..samples as u64).collect();
            if plan.data.shuffle {
                order.sort_by_cached_key(|id| self.0.hash_one((plan.seed, epoch, id)));
            }
            let batches: Vec<(u64, &[u64])> = (0..).zip(order.chunks(batch)).take(per_epoch).collect();
            for batches in batches.chunks(window) {
                let ([mut by_slope, mut by_intercept], mut targets) = ([0.0; 2], 0);
                for &(index, samples) in batches {
                    let mut squares = 0.0;
                    let pairs = pairs(plan, samples);
                    for [x, y] in &pairs {
                        let error = slope * x + intercept - y;
                        squares += f64::from(error * error);
                        by_slope += 2.0 * error * x;
                        by_intercept += 2.0 * error;
                    }
                    let weight = pairs.len() as u64;
                    targets += weight;
                    recorder.write(|| MicroBatch {
                        epoch,
                        index,
                        samples: Some(samples.to_vec()),
                        targets: Some(weight),
                        losses: vec![Loss::new("lm", squares, weight)],
                        ..Default::default()
                    })?;
                }
                step += 1;
                let lr = rate(&plan.train, updates, step);
                slope -= lr as f32 * by_slope / targets as f32;
                intercept -= lr as f32 * by_intercept / targets as f32;
                recorder.write(|| Update {
                    step,
                    micro_batches: Some(batches.len() as u64),
                    targets: Some(targets),
                    lr: vec![lr.into()],
                    digest: Some(Digest::new().values(&[slope, intercept]).text()),
                    ..Default::default()
                })?;
            }
            recorder.write(|| Epoch::end(epoch))?;
        }
        Ok(())
    }
}

/// Each token that has a next one, and that one; in units of the vocabulary.
fn pairs(plan: &Plan, samples: &[u64]) -> Vec<[f32; 2]> {
    let number = |token: u32| token as f32 / plan.data.tokens.vocabulary as f32;
    let most = plan.data.max_length as usize;
    let of = |&id: &u64| cut(&plan.data.samples[id as usize], most);
    let rows: Vec<Vec<u32>> = samples.iter().map(of).collect();
    let neighbours = rows.iter().flat_map(|row| row.windows(2));
    neighbours.map(|pair| [number(pair[0]), number(pair[1])]).collect()
}

/// A sample of at most so many tokens: its first ones, and its last.
fn cut(sample: &[u32], most: usize) -> Vec<u32> {
    match sample.last() {
        Some(last) if sample.len() > most => [&sample[..most - 1], &[*last]].concat(),
        _ => sample.to_vec(),
    }
}

/// The rate of update `step` of so many.
fn rate(train: &Train, updates: u64, step: u64) -> f64 {
    let (warmup, lr) = (train.schedule.warmup, train.optimizer.lr);
    if step < warmup {
        return lr * step as f64 / warmup as f64;
    }
    let progress = (step - warmup) as f64 / updates.saturating_sub(warmup).max(1) as f64;
    match train.schedule.name {
        ScheduleName::Constant => lr,
        ScheduleName::Linear => lr * (1.0 - progress),
        ScheduleName::Cosine => lr * (0.5 + 0.5 * (std::f64::consts::PI * progress).cos()),
    }
}

#[allow(dead_code, reason = "tests have a main function of their own")]
fn main() -> std::process::ExitCode {
    traintrue::trainer_main(LinearRegression::<BuildHasherDefault<DefaultHasher>>::default)
}
