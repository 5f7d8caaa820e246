//! The linear regression of `linear_regression.rs` in a loop that has all of a real one: Adam, clipping, every kind of
//! tail, a share of the data for each of several ranks, evaluation, and checkpoints at any micro-batch.
//!
//!     cargo build -p traintrue --example resumable
//!     traintrue run --trainer target/debug/examples/resumable

use std::fs;
use std::path::Path;

use serde::{Deserialize, Serialize};
use traintrue::contract::{FirstLr, Tail};
use traintrue::digest::{Digest, norm};
use traintrue::plan::{ScheduleName, Train};
use traintrue::trace::event::{Checkpoint, CheckpointEdge, Epoch, Evaluation, Loss, MicroBatch, Update};
use traintrue::vocabulary::Capability;
use traintrue::{Plan, Recorder, Trainer, TrainerError};

/// The trainer, and what it makes of a state that it reads back: nothing, in a healthy one.
pub struct Resumable {
    /// From a checkpoint's state to the one that training goes on from.
    pub restore: fn(State) -> State,
}

/// Everything that the next update depends on; slope and intercept come first.
#[derive(Default, Serialize, Deserialize)]
pub struct State {
    weights: [f32; 2],
    first: [f32; 2],
    second: [f32; 2],
    step: u64,
    epoch: u64,
    done: u64,
    /// The open window.
    pub window: Window,
}

/// The micro-batches since the last update.
#[derive(Default, Serialize, Deserialize)]
pub struct Window {
    gradient: [f32; 2],
    targets: u64,
    micro_batches: u64,
}

impl Trainer for Resumable {
    fn capabilities(&self) -> &[Capability] {
        &[Capability::Resume, Capability::Evaluation, Capability::Contract, Capability::World]
    }

    fn run(&mut self, plan: &Plan, recorder: &mut Recorder) -> Result<(), TrainerError> {
        let contract = plan.contract.over(self.contract());
        let mut state = State::default();
        if let Some(start) = &plan.start {
            state = (self.restore)(serde_json::from_slice(&fs::read(start.from.join("state.json"))?)?);
            recorder.write(|| state.checkpoint(CheckpointEdge::Loaded, &start.from))?;
        }
        let mut batches = batches(plan, state.epoch);
        let (length, window) = (batches.len() as u64, plan.train.accumulation);
        let updates = plan.train.schedule.updates.unwrap_or(match contract.tail {
            Tail::Flush => length.div_ceil(window) * plan.data.epochs,
            Tail::Drop => length / window * plan.data.epochs,
            Tail::Carry => length * plan.data.epochs / window,
        });
        // The end of an epoch is the beginning of the next.
        let settled = |epoch, done| if done < length { (epoch, done) } else { (epoch + 1, 0) };
        let stop = plan.stop.as_ref().map(|stop| settled(stop.epoch, stop.micro_batches));

        while state.epoch < plan.data.epochs && Some((state.epoch, state.done)) != stop {
            if state.done == 0 {
                recorder.write(|| Epoch::begin(state.epoch))?;
            }
            let samples = batches.get(state.done as usize).map_or(&[][..], Vec::as_slice);
            let micro_batch = state.micro_batch(plan, samples);
            recorder.write(|| micro_batch)?;
            state.done += 1;

            let last = state.done >= length;
            let full = state.window.micro_batches == window;
            let updated = full || (last && contract.tail == Tail::Flush);
            if updated {
                let taken = state.step + u64::from(contract.first_lr == FirstLr::Nonzero);
                let update = state.update(&plan.train, rate(&plan.train, updates, taken));
                recorder.write(|| update)?;
            }
            if last {
                recorder.write(|| Epoch::end(state.epoch))?;
                (state.epoch, state.done) = (state.epoch + 1, 0);
                batches = self::batches(plan, state.epoch);
                if contract.tail == Tail::Drop {
                    state.window = Window::default();
                }
            }
            let due =
                |every: Option<u64>| updated && every.is_some_and(|every| state.step.is_multiple_of(every));
            if due(plan.evaluate_every) {
                recorder.write(|| state.evaluation(plan))?;
            }
            if let Some(folder) = plan.save_to.as_deref().filter(|_| due(plan.save_every)) {
                state.save(folder, recorder)?;
            }
        }
        match plan.stop.as_ref().and_then(|stop| stop.save.as_deref()) {
            Some(folder) => state.save(folder, recorder),
            None => Ok(()),
        }
    }
}

/// The micro-batches of this rank in an epoch.
fn batches(plan: &Plan, epoch: u64) -> Vec<Vec<u64>> {
    let (data, train) = (&plan.data, &plan.train);
    let mut order: Vec<u64> = (0..data.samples.len() as u64).collect();
    if data.shuffle {
        let key = |id: &u64| *blake3::hash(format!("{} {epoch} {id}", plan.seed).as_bytes()).as_bytes();
        order.sort_by_cached_key(key);
    }
    let mut batches: Vec<Vec<u64>> = order.chunks(data.batch as usize).map(<[u64]>::to_vec).collect();
    if data.drop_last {
        batches.retain(|batch| batch.len() as u64 == data.batch);
    }
    let of_rank = batches.len() as u64 / train.world;
    batches
        .into_iter()
        .skip(train.rank as usize)
        .step_by(train.world as usize)
        .take(of_rank as usize)
        .collect()
}

/// The rate once the schedule has taken so many steps.
fn rate(train: &Train, updates: u64, taken: u64) -> f64 {
    let warmup = train.schedule.warmup;
    let progress = taken.saturating_sub(warmup) as f64 / updates.saturating_sub(warmup).max(1) as f64;
    let multiplier = match train.schedule.name {
        _ if taken < warmup => taken as f64 / warmup as f64,
        ScheduleName::Constant => 1.0,
        ScheduleName::Linear => 1.0 - progress.min(1.0),
        ScheduleName::Cosine => 0.5 + 0.5 * (std::f64::consts::PI * progress.min(1.0)).cos(),
    };
    train.optimizer.lr * multiplier
}

impl State {
    /// The summed squared error over the pairs of neighbours in a sample, and its gradient.
    fn squares(&self, plan: &Plan, sample: &[u32]) -> (f32, [f32; 2], u64) {
        let most = plan.data.max_length as usize;
        let cut = sample.len().min(most).saturating_sub(1);
        let ids = sample.iter().take(cut).chain(sample.last());
        let numbers: Vec<f32> = ids.map(|&id| id as f32 / plan.data.tokens.vocabulary as f32).collect();
        let [slope, intercept] = self.weights;
        numbers.windows(2).fold((0.0, [0.0; 2], 0), |(sum, [by_slope, by_intercept], pairs), pair| {
            let error = slope * pair[0] + intercept - pair[1];
            let gradient = [by_slope + 2.0 * error * pair[0], by_intercept + 2.0 * error];
            (sum + error * error, gradient, pairs + 1)
        })
    }

    /// Forward and backward: adds to the window, and says what it was.
    fn micro_batch(&mut self, plan: &Plan, samples: &[u64]) -> MicroBatch {
        let (mut loss, mut targets) = (0.0, 0);
        for &id in samples {
            let (sum, gradient, pairs) = self.squares(plan, &plan.data.samples[id as usize]);
            self.window.gradient = [0, 1].map(|at| self.window.gradient[at] + gradient[at]);
            loss += f64::from(sum);
            targets += pairs;
        }
        self.window.targets += targets;
        self.window.micro_batches += 1;
        MicroBatch {
            epoch: self.epoch,
            index: self.done,
            samples: Some(samples.to_vec()),
            targets: Some(targets),
            losses: vec![Loss::new("lm", loss, targets)],
            ..Default::default()
        }
    }

    /// One step of Adam on the mean over the window's targets, clipped by its norm.
    fn update(&mut self, train: &Train, lr: f64) -> Update {
        let window = std::mem::take(&mut self.window);
        let mut gradient = window.gradient.map(|sum| sum / window.targets.max(1) as f32);
        let grad_norm = norm([&gradient[..]]);
        let scale = train.clip.map_or(1.0, |most| (most / grad_norm).min(1.0));
        gradient = gradient.map(|x| x * scale as f32);
        self.step += 1;
        let [beta1, beta2] = train.optimizer.betas.map(|beta| beta as f32);
        let correction = |beta: f32| 1.0 - beta.powf(self.step as f32);
        for (at, g) in gradient.into_iter().enumerate() {
            self.first[at] = beta1 * self.first[at] + (1.0 - beta1) * g;
            self.second[at] = beta2 * self.second[at] + (1.0 - beta2) * g * g;
            let root = (self.second[at] / correction(beta2)).sqrt() + train.optimizer.eps as f32;
            self.weights[at] -= lr as f32 * self.first[at] / correction(beta1) / root;
        }
        Update {
            step: self.step,
            micro_batches: Some(window.micro_batches),
            targets: Some(window.targets),
            lr: vec![lr.into()],
            grad_norm: Some(grad_norm.into()),
            clipped_norm: Some(norm([&gradient[..]]).into()),
            digest: Some(self.digest()),
            ..Default::default()
        }
    }

    fn evaluation(&self, plan: &Plan) -> Evaluation {
        let samples = plan.data.evaluation.iter().map(|sample| self.squares(plan, sample));
        let (sum, pairs) =
            samples.fold((0.0, 0), |(sum, pairs), (loss, _, more)| (sum + f64::from(loss), pairs + more));
        Evaluation {
            step: self.step,
            samples: Some((0..plan.data.evaluation.len() as u64).collect()),
            losses: vec![Loss::new("lm", sum, pairs)],
            metric: Some((sum / pairs as f64).into()),
            digest_before: Some(self.digest()),
            digest_after: Some(self.digest()),
            ..Default::default()
        }
    }

    fn digest(&self) -> String {
        Digest::new().values(&self.weights).values(&self.first).values(&self.second).text()
    }

    fn save(&self, folder: &Path, recorder: &mut Recorder) -> Result<(), TrainerError> {
        fs::create_dir_all(folder)?;
        fs::write(folder.join("state.json"), serde_json::to_vec(self)?)?;
        Ok(recorder.write(|| self.checkpoint(CheckpointEdge::Saved, folder))?)
    }

    fn checkpoint(&self, edge: CheckpointEdge, folder: &Path) -> Checkpoint {
        let path = folder.display().to_string();
        Checkpoint::new(edge, self.step, (self.epoch, self.done), path)
    }
}

#[allow(dead_code, reason = "tests have a main function of their own")]
fn main() -> std::process::ExitCode {
    traintrue::trainer_main(|| Resumable { restore: |state| state })
}
