//! A training loop on burn 0.21 that shares its process with other trainings, as a trainer of traintrue.
//!
//! ```text
//! cargo build --release --manifest-path harness/burn-threads/Cargo.toml --target-dir target
//! traintrue run --scenarios golden/results/burn-0.21-threads/scenarios --trainer target/release/traintrue-burn-threads
//! ```
//!
//! A run whose name begins with `alone` trains on one thread. In every other run, further threads train models of their own
//! at the same time. The threads share no tensor, so each run of one plan should give the same trace.

mod model;
mod seen;

use std::process::ExitCode;
use std::slice::{self, Chunks};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use traintrue_protocol::plan::ScheduleName;
use traintrue_protocol::trace::event::{Epoch, Loss, MicroBatch, Update};
use traintrue_protocol::vocabulary::Moment;
use traintrue_protocol::{Plan, Recorder, Trainer, TrainerError};

use model::{Training, targets};

/// Threads that train beside the recorded one: enough for a loss in nearly every run on two cores.
const NEIGHBOURS: usize = 7;

struct BurnThreads;

impl Trainer for BurnThreads {
    fn name(&self) -> String {
        "burn 0.21.0, several threads".to_owned()
    }

    fn device(&self) -> String {
        "ndarray".to_owned()
    }

    fn run(&mut self, plan: &Plan, recorder: &mut Recorder) -> Result<(), TrainerError> {
        supported(plan)?;
        let mut training = Training::new(plan);
        if plan.run.starts_with("alone") {
            return train(&mut training, plan, recorder);
        }
        // All models are built here: burn's generator of random numbers belongs to the process.
        let neighbours: Vec<Training> = (0..NEIGHBOURS).map(|_| Training::new(plan)).collect();
        let (began, done) = (Barrier::new(NEIGHBOURS + 1), AtomicBool::new(false));
        thread::scope(|scope| {
            for mut neighbour in neighbours {
                let (began, done) = (&began, &done);
                scope.spawn(move || {
                    began.wait();
                    for window in windows(plan).cycle() {
                        if done.load(Ordering::Relaxed) {
                            break;
                        }
                        neighbour.step(window);
                    }
                });
            }
            began.wait();
            let trained = train(&mut training, plan, recorder);
            done.store(true, Ordering::Relaxed);
            trained
        })
    }
}

fn supported(plan: &Plan) -> Result<(), TrainerError> {
    let (data, train) = (&plan.data, &plan.train);
    let is_plain = !data.shuffle && data.batch == 1 && train.world == 1 && train.dropout == 0.0;
    let is_constant = train.schedule.name == ScheduleName::Constant && train.schedule.warmup == 0;
    if !is_plain || !is_constant || train.clip.is_some() {
        return Err(
            "plan: this trainer has a batch of 1, a constant rate, no shuffle, no dropout and no clipping"
                .into(),
        );
    }
    let fits = |sample: &Vec<u32>| (2..=data.max_length as usize).contains(&sample.len());
    match data.samples.iter().position(|sample| !fits(sample)) {
        None => Ok(()),
        Some(at) => {
            let (found, most) = (data.samples[at].len(), data.max_length);
            Err(format!("data.samples[{at}]: found {found} tokens, expected 2 to {most}").into())
        }
    }
}

/// The samples of each update of an epoch.
fn windows(plan: &Plan) -> Chunks<'_, Vec<u32>> {
    plan.data.samples.chunks(plan.train.accumulation as usize)
}

fn train(training: &mut Training, plan: &Plan, recorder: &mut Recorder) -> Result<(), TrainerError> {
    recorder.write(|| seen::state(Moment::Start, training))?;
    for epoch in 0..plan.data.epochs {
        recorder.write(|| Epoch::begin(epoch))?;
        let mut indices = 0..;
        for window in windows(plan) {
            let losses = training.step(window);
            for ((sample, loss), index) in window.iter().zip(losses).zip(&mut indices) {
                let targets = targets(slice::from_ref(sample));
                recorder.write(|| MicroBatch {
                    epoch,
                    index,
                    samples: Some(vec![index]),
                    targets: Some(targets),
                    losses: vec![Loss::new("lm", loss, targets)],
                    ..Default::default()
                })?;
            }
            recorder.write(|| Update {
                step: training.steps,
                micro_batches: Some(window.len() as u64),
                targets: Some(targets(window)),
                lr: vec![plan.train.optimizer.lr.into()],
                ..Default::default()
            })?;
            recorder.write(|| seen::state(Moment::Update, training))?;
        }
        recorder.write(|| Epoch::end(epoch))?;
    }
    Ok(recorder.write(|| seen::state(Moment::End, training))?)
}

fn main() -> ExitCode {
    traintrue_protocol::trainer_main(|| BurnThreads)
}
