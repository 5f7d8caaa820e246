//! From the training state to a checkpoint's content and back, section by section.

use std::collections::BTreeMap;
use std::path::Path;

use traintrue_protocol::plan::{Plan, Train};
use traintrue_protocol::trace::event::Cursor;

use crate::adapters::adapter_tensors;
use crate::checkpoint::{
    ADAPTER, AdapterConfig, CheckpointError, Content, NamedTensor, TrainerRecord, WindowRecord,
};
use crate::engine::{Engine, Inner};
use crate::model::{Parameter, from_vec, to_vec};
use crate::rng::Position;
use crate::state::State;
use crate::window::Window;

const MODEL: &str = "model.safetensors";
const OPTIMIZER: &str = "optimizer.safetensors";
const WINDOW: &str = "window.safetensors";

/// The parts of saving and of a resume, one per section of a checkpoint.
pub struct ResumeParts<E: Engine> {
    /// Copies everything that a checkpoint holds out of a state.
    pub capture: fn(&mut State<E>, &Plan, Cursor) -> Content,
    /// Restores the position in the data.
    pub cursor: fn(&mut State<E>, &TrainerRecord, batch: u64),
    /// Restores the sampler's epoch.
    pub sampler: fn(&mut State<E>, &TrainerRecord),
    /// Restores the number of updates.
    pub step: fn(&mut State<E>, &TrainerRecord),
    /// Restores the steps of the learning-rate schedule.
    pub schedule: fn(&mut State<E>, &TrainerRecord),
    /// Restores the position of dropout's random stream.
    pub rng: fn(&mut State<E>, &TrainerRecord),
    /// Restores the optimizer's moments.
    pub moments: fn(&mut State<E>, &Sections),
    /// Restores the best metric so far.
    pub best: fn(&mut State<E>, &TrainerRecord),
    /// Restores the open gradient-accumulation window.
    pub window: fn(&mut State<E>, &Sections),
}

impl<E: Engine> Default for ResumeParts<E> {
    fn default() -> Self {
        Self {
            capture: |state, plan, cursor| content(state, plan, cursor),
            cursor: |state, record, _| state.cursor = record.cursor,
            sampler: |state, record| state.sampler_epoch = record.sampler_epoch,
            step: |state, record| state.step = record.step,
            schedule: |state, record| state.schedule_step = record.schedule_step,
            rng: |state, record| record.rng.restore(&mut state.dropout.rng),
            moments: restore_moments,
            best: |state, record| state.best = record.best,
            window: restore_window,
        }
    }
}

/// A checkpoint's content, its tensors by file and name.
pub struct Sections {
    /// Everything that is not a tensor.
    pub record: TrainerRecord,
    tensors: BTreeMap<String, BTreeMap<String, NamedTensor>>,
}

impl Sections {
    fn of(content: Content) -> Self {
        let by_name =
            |tensors: Vec<NamedTensor>| tensors.into_iter().map(|it| (it.name.clone(), it)).collect();
        let tensors = content.tensors.into_iter().map(|(file, tensors)| (file, by_name(tensors))).collect();
        Self { record: content.record, tensors }
    }

    fn find(&self, file: &str, name: &str) -> Option<&NamedTensor> {
        self.tensors.get(file)?.get(name)
    }
}

/// Everything that a checkpoint holds of a state.
pub fn content<E: Engine>(state: &State<E>, plan: &Plan, cursor: Cursor) -> Content {
    let mut tensors = BTreeMap::new();
    tensors.insert(MODEL.to_owned(), state.parameters.0.iter().map(NamedTensor::of).collect::<Vec<_>>());
    tensors.insert(OPTIMIZER.to_owned(), moments(state));
    tensors.insert(WINDOW.to_owned(), window(state));
    let adapters = plan.train.adapters.as_ref();
    if adapters.is_some() {
        tensors.insert(ADAPTER.to_owned(), adapter_tensors(&state.parameters));
    }
    let updates = |(parameter, moments): (&Parameter<Inner<E>>, &Option<_>)| {
        let moments: &crate::optimizer::Moments<Inner<E>> = moments.as_ref()?;
        Some((parameter.name.clone(), moments.updates))
    };
    let record = TrainerRecord {
        seed: plan.seed,
        step: state.step,
        schedule_step: state.schedule_step,
        cursor,
        sampler_epoch: state.sampler_epoch,
        rng: Position::of(&state.dropout.rng),
        window: WindowRecord { counts: state.window.counts, totals: state.window.totals },
        best: state.best,
        optimizer_updates: state
            .parameters
            .0
            .iter()
            .zip(&state.optimizer.moments)
            .filter_map(updates)
            .collect(),
    };
    Content { tensors, record, adapter_config: adapters.and_then(|it| adapter_config(it, &plan.train)) }
}

fn adapter_config(adapters: &traintrue_protocol::plan::Adapters, train: &Train) -> Option<serde_json::Value> {
    serde_json::to_value(AdapterConfig::of(adapters, train)).ok()
}

fn moments<E: Engine>(state: &State<E>) -> Vec<NamedTensor> {
    let mut tensors = Vec::new();
    for (parameter, moments) in state.parameters.0.iter().zip(&state.optimizer.moments) {
        let Some(moments) = moments else { continue };
        for (moment, values) in [("first", &moments.first), ("second", &moments.second)] {
            tensors.push(NamedTensor {
                name: format!("{}.{moment}", parameter.name),
                shape: parameter.shape.clone(),
                values: to_vec(values.clone()),
            });
        }
    }
    tensors
}

fn window<E: Engine>(state: &State<E>) -> Vec<NamedTensor> {
    let gradients = state.parameters.0.iter().zip(&state.window.gradients);
    gradients
        .filter_map(|(parameter, gradient)| {
            let values = to_vec(gradient.clone()?);
            Some(NamedTensor { name: parameter.name.clone(), shape: parameter.shape.clone(), values })
        })
        .collect()
}

/// What only one rank has of a checkpoint: its open window, and its place in its random stream.
pub fn of_a_rank(whole: Content) -> Content {
    let tensors = whole.tensors.into_iter().filter(|(file, _)| file == WINDOW).collect();
    Content { tensors, adapter_config: None, ..whole }
}

/// What all ranks share, of rank 0's checkpoint, with what a rank has alone. Fails where they are of two moments.
pub fn with_the_rank(shared: Content, own: Content, path: &Path) -> Result<Content, CheckpointError> {
    let moment = |record: &TrainerRecord| (record.step, record.cursor);
    if moment(&shared.record) != moment(&own.record) {
        let problem =
            format!("saved after update {}, and rank 0's after {}", own.record.step, shared.record.step);
        return Err(CheckpointError::Mismatch { path: path.to_owned(), problem });
    }
    let record = TrainerRecord { rng: own.record.rng, window: own.record.window, ..shared.record };
    let tensors = shared.tensors.into_iter().chain(own.tensors).collect();
    Ok(Content { tensors, record, ..shared })
}

/// Restores a checkpoint's content into a fresh state of the same plan. Fails where seed or tensors differ from the plan's.
pub fn restore<E: Engine>(
    parts: &ResumeParts<E>,
    state: &mut State<E>,
    content: Content,
    plan: &Plan,
    path: &Path,
) -> Result<(), CheckpointError> {
    let mismatch = |problem: String| CheckpointError::Mismatch { path: path.to_owned(), problem };
    let sections = Sections::of(content);
    if sections.record.seed != plan.seed {
        return Err(mismatch(format!(
            "seed {} in the checkpoint, {} in the plan",
            sections.record.seed, plan.seed
        )));
    }
    for parameter in &mut state.parameters.0 {
        let name = &parameter.name;
        let saved = sections
            .find(MODEL, name)
            .ok_or_else(|| mismatch(format!("{MODEL}: tensor {name} is missing; the plan's model has it")))?;
        if saved.shape != parameter.shape {
            let (found, expected) = (&saved.shape, &parameter.shape);
            return Err(mismatch(format!(
                "{MODEL}: tensor {name} has shape {found:?}, expected {expected:?}"
            )));
        }
        parameter.set(saved.values.clone());
    }
    let record = &sections.record;
    (parts.cursor)(state, record, plan.data.batch);
    (parts.sampler)(state, record);
    (parts.step)(state, record);
    (parts.schedule)(state, record);
    (parts.rng)(state, record);
    (parts.moments)(state, &sections);
    (parts.window)(state, &sections);
    (parts.best)(state, record);
    Ok(())
}

fn restore_moments<E: Engine>(state: &mut State<E>, sections: &Sections) {
    for (parameter, moments) in state.parameters.0.iter().zip(&mut state.optimizer.moments) {
        let Some(moments) = moments else { continue };
        let saved = |moment: &str| sections.find(OPTIMIZER, &format!("{}.{moment}", parameter.name));
        if let (Some(first), Some(second)) = (saved("first"), saved("second")) {
            let device = moments.first.device();
            let extents = moments.first.dims();
            moments.first = from_vec(first.values.clone(), extents, &device);
            moments.second = from_vec(second.values.clone(), extents, &device);
            moments.updates = sections.record.optimizer_updates.get(&parameter.name).copied().unwrap_or(0);
        }
    }
}

fn restore_window<E: Engine>(state: &mut State<E>, sections: &Sections) {
    let WindowRecord { counts, totals } = sections.record.window;
    let gradient = |parameter: &Parameter<Inner<E>>| {
        let saved = sections.find(WINDOW, &parameter.name)?;
        Some(from_vec(saved.values.clone(), parameter.value.dims(), &parameter.value.device()))
    };
    let gradients = if counts.micro_batches == 0 {
        Vec::new()
    } else {
        state.parameters.0.iter().map(gradient).collect()
    };
    state.window = Window { gradients, counts, totals };
}
