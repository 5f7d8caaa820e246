//! burn-train's `SupervisedTraining`, driven through its public API and nothing else, as a trainer of traintrue.
//!
//! ```text
//! cargo build --release --manifest-path harness/trainers/burn-train/Cargo.toml --target-dir target
//! traintrue run --scenarios golden/results/burn-train-0.21/scenarios --trainer target/release/traintrue-burn-train
//! ```
//!
//! The loop, the optimizer, the schedule, the shuffle and the checkpoints are burn's. What is written into the trace is seen
//! where burn calls its user: the data loader (`loader.rs`), the model's `step` and `optimize` (`model.rs`), the optimizer's
//! step for one tensor (`watched.rs`) and the checkpointing strategy (`place.rs`).

mod journal;
mod loader;
mod model;
mod place;
mod rates;
mod silent;
mod watched;

use std::process::ExitCode;
use std::sync::mpsc;
use std::thread;

use burn::backend::{Autodiff, NdArray};
use burn::record::{FullPrecisionSettings, NamedMpkFileRecorder};
use burn::tensor::backend::Backend;
use burn_train::{Learner, SupervisedTraining};
use traintrue_protocol::contract::{Contract, FirstLr, Gradients, Normaliser, Tail};
use traintrue_protocol::{Plan, Recorder, Trainer, TrainerError};

use journal::Journal;
use model::Bigram;
use place::{EveryEpoch, Place};
use rates::Rates;
use silent::Silent;

/// One thread, one order of summing: the same bits every time.
type Cpu = Autodiff<NdArray>;

struct BurnTrain;

impl Trainer for BurnTrain {
    fn name(&self) -> String {
        "burn-train 0.21.0".to_owned()
    }

    fn device(&self) -> String {
        "ndarray".to_owned()
    }

    /// As burn documents it, the gradients of a window are summed; its schedules begin with their first value. That an open
    /// window is dropped at an epoch's end is what the loop does.
    fn contract(&self) -> Contract {
        Contract {
            tail: Tail::Drop,
            normaliser: Normaliser::MicroBatches,
            gradients: Gradients::Sum,
            first_lr: FirstLr::Zero,
            ..Contract::default()
        }
    }

    fn run(&mut self, plan: &Plan, recorder: &mut Recorder) -> Result<(), TrainerError> {
        let (sender, events) = mpsc::channel();
        thread::scope(|scope| {
            let training = scope.spawn(|| train(plan, Journal::new(sender)));
            for event in events {
                recorder.write(|| event)?;
            }
            training.join().map_err(|_| "burn-train panicked: see standard error")?
        })
    }
}

fn train(plan: &Plan, journal: Journal) -> Result<(), TrainerError> {
    let place = Place::of(plan)?;
    let device = Default::default();
    Cpu::seed(&device, plan.seed);
    let model = Bigram::<Cpu>::new(plan, journal.clone(), &device);
    let optimizer = watched::adamw::<Cpu, Bigram<Cpu>>(&plan.train, &journal);
    let rates = Rates::of(plan, place.updates_per_epoch);
    let training = loader::training::<Cpu>(plan, journal.clone(), place.begun);
    let validation = loader::validation::<NdArray>(plan, journal.clone());
    let mut training = SupervisedTraining::new(&place.folder, training, validation)
        .with_application_logger(None)
        .with_metric_logger(Silent)
        .renderer(Silent)
        .with_checkpointing_strategy(EveryEpoch::new(journal.clone(), place.folder.clone()))
        .num_epochs(place.ends as usize);
    if place.keeps {
        training = training.with_file_checkpointer(NamedMpkFileRecorder::<FullPrecisionSettings>::new());
    }
    if plan.train.accumulation > 1 {
        training = training.grads_accumulation(plan.train.accumulation as usize);
    }
    if place.begun > 0 {
        training = training.checkpoint(place.begun as usize);
        journal.resumed(&place.folder, place.begun, place.updates_per_epoch);
    }
    training.launch(Learner::new(model, optimizer, rates));
    Ok(())
}

fn main() -> ExitCode {
    traintrue_protocol::trainer_main(|| BurnTrain)
}
