//! Where a run begins and ends, in whole epochs: burn-train saves and resumes nowhere else.

use std::fs;
use std::path::{Path, PathBuf};

use burn_train::checkpoint::{CheckpointingAction, CheckpointingStrategy};
use burn_train::metric::store::EventStoreClient;
use traintrue_protocol::{Plan, TrainerError};

use crate::journal::Journal;

/// Where a run begins and ends.
pub struct Place {
    /// Epochs done before this process.
    pub begun: u64,
    /// Epochs done after it.
    pub ends: u64,
    /// Updates of an epoch: a window that is open at its end is dropped.
    pub updates_per_epoch: u64,
    /// The folder that burn is given.
    pub folder: PathBuf,
    /// Whether it is to load or to save there.
    pub keeps: bool,
}

impl Place {
    /// Fails on a plan that burn-train has no words for.
    pub fn of(plan: &Plan) -> Result<Self, TrainerError> {
        let micro_batches = (plan.data.samples.len() as u64).div_ceil(plan.data.batch);
        let fits = |sample: &Vec<u32>| (2..=plan.data.max_length).contains(&(sample.len() as u64));
        if plan.data.drop_last || plan.train.world > 1 || !plan.data.samples.iter().all(fits) {
            return Err("data.drop_last, train.world and samples of one token or over data.max_length \
                        are not supported"
                .into());
        }
        let ends = match &plan.stop {
            None => plan.data.epochs,
            Some(stop) if stop.micro_batches == micro_batches => stop.epoch + 1,
            Some(_) => return Err("stop: burn-train saves at an epoch's end, and nowhere else".into()),
        };
        let updates_per_epoch = micro_batches / plan.train.accumulation;
        let every_epoch = |every: Option<u64>| every.is_none_or(|every| every == updates_per_epoch);
        if !every_epoch(plan.save_every) || !every_epoch(plan.evaluate_every) {
            return Err("burn-train saves and evaluates at an epoch's end, and nowhere else".into());
        }
        let from = plan.start.as_ref().map(|start| start.from.clone());
        let stopped = plan.stop.as_ref().and_then(|stop| stop.save.clone());
        let save = stopped.or_else(|| plan.save_every.and(plan.save_to.clone()));
        if from.is_some() && save.is_some() {
            return Err("burn-train saves into the folder that it resumes from, and nowhere else".into());
        }
        Ok(Self {
            begun: from.as_deref().map_or(Ok(0), newest)?,
            ends,
            updates_per_epoch,
            keeps: save.is_some() || from.is_some(),
            folder: save.or(from).unwrap_or_default(),
        })
    }
}

/// Saves after every epoch, and says so.
pub struct EveryEpoch {
    journal: Journal,
    folder: PathBuf,
}

impl EveryEpoch {
    /// The strategy of a run that saves into `folder`.
    pub fn new(journal: Journal, folder: PathBuf) -> Self {
        Self { journal, folder }
    }
}

impl CheckpointingStrategy for EveryEpoch {
    fn checkpointing(&mut self, epoch: usize, _: &EventStoreClient) -> Vec<CheckpointingAction> {
        self.journal.saved(&self.folder, epoch as u64);
        vec![CheckpointingAction::Save]
    }
}

/// The last epoch that burn has saved in a folder, as `checkpoint/model-EPOCH.mpk`.
fn newest(folder: &Path) -> Result<u64, TrainerError> {
    let mut epochs = Vec::new();
    for entry in fs::read_dir(folder.join("checkpoint"))? {
        let name = entry?.file_name().to_string_lossy().into_owned();
        let epoch = name.strip_prefix("model-").and_then(|name| name.strip_suffix(".mpk"));
        epochs.extend(epoch.and_then(|epoch| epoch.parse::<u64>().ok()));
    }
    epochs.into_iter().max().ok_or_else(|| format!("{}: no checkpoint", folder.display()).into())
}
