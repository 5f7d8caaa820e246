//! The events of a trace, each computed from the trainer's real state.
//!
//! Nothing in this file is a part, so no fault can replace it: a faulty trainer reports what it really did.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use traintrue_protocol::digest::{Digest, sketch};
use traintrue_protocol::number::Number;
use traintrue_protocol::plan::{Boundary, Plan};
use traintrue_protocol::trace::Event;
use traintrue_protocol::trace::event::{
    self, Adapted, Checkpoint, CheckpointEdge, Cursor, Evaluation, Loss, Memory, MicroBatch, TensorState,
    Update,
};
use traintrue_protocol::vocabulary::{Adaptation, Moment};

use crate::breaker::Grouping;
use crate::data::Batch;
use crate::engine::{Engine, Inner};
use crate::model::{Parameter, to_vec};
use crate::optimizer::{Moments, global_norm, norm};
use crate::placement::Left;
use crate::rng::Position;
use crate::state::State;
use crate::window::GradientSet;

/// Sums in the sketch of a tensor.
pub const SKETCHES: u64 = 4;

/// A summed loss with the weight that the loop divides it by.
pub struct Summed<'a> {
    /// `lm`, or the name of the head.
    pub name: &'a str,
    /// The sum, in nats.
    pub sum: f64,
    /// Supervised positions for `lm`, samples for the head.
    pub weight: u64,
}

impl Summed<'_> {
    fn loss(&self) -> Loss {
        Loss::new(self.name, self.sum, self.weight)
    }
}

/// L2 norms of the last update's gradients before clipping.
#[derive(Debug, Default)]
pub struct Unclipped {
    by_tensor: Vec<Option<f64>>,
    global: f64,
}

impl Unclipped {
    /// The norms of these gradients.
    pub fn of<B: Backend>(gradients: &GradientSet<B>) -> Self {
        let by_tensor = gradients.iter().map(|gradient| gradient.as_ref().map(norm)).collect();
        Self { by_tensor, global: global_norm(gradients) }
    }
}

/// One forward and backward pass.
pub fn micro_batch<E: Engine>(at: Cursor, batch: &Batch, losses: &[Summed], cache_bytes: u64) -> MicroBatch {
    MicroBatch {
        epoch: at.epoch,
        index: at.micro_batches,
        samples: Some(batch.samples.clone()),
        rows: Some(batch.counts.rows),
        width: Some(batch.rows.width as u64),
        tokens: Some(batch.counts.tokens),
        targets: Some(batch.counts.targets),
        cache_bytes: Some(cache_bytes),
        checkpointing: Some(E::CHECKPOINTING),
        losses: losses.iter().map(Summed::loss).collect(),
        ..Default::default()
    }
}

/// An optimizer step with the gradients `given`, at the learning rate `lr`.
pub fn update<E: Engine>(
    state: &State<E>,
    unclipped: &Unclipped,
    given: &GradientSet<Inner<E>>,
    lr: f64,
) -> Update {
    Update {
        step: state.step,
        micro_batches: Some(state.window.counts.micro_batches),
        targets: Some(state.window.counts.targets),
        lr: vec![Number(lr)],
        grad_norm: Some(Number(unclipped.global)),
        clipped_norm: Some(Number(global_norm(given))),
        applied: true,
        digest: Some(trained_digest(state)),
        ..Default::default()
    }
}

/// Everything that the next update depends on.
pub fn state<E: Engine>(state: &State<E>, at: Moment, unclipped: &Unclipped) -> event::State {
    let tensors = state.parameters.0.iter().enumerate().map(|(place, parameter)| {
        let grad_norm = unclipped.by_tensor.get(place).copied().flatten();
        tensor(parameter, state.optimizer.moments[place].as_ref(), grad_norm)
    });
    event::State {
        at,
        step: state.step,
        tensors: tensors.collect(),
        buffers: Default::default(),
        parts: adapter_scale(state),
        rng: Some(rng_digest(state)),
        schedule_step: Some(state.schedule_step),
        cursor: Some(state.cursor),
        window: Some(state.window.counts.micro_batches),
        window_digest: Some(window_digest(&state.window.gradients)),
        best: state.best.map(Number),
        scaler: None,
        ema: None,
    }
}

fn adapter_scale<E: Engine>(state: &State<E>) -> BTreeMap<String, String> {
    let is_adapted = state.parameters.0.iter().any(|it| it.group == "adapter");
    let scale = (event::State::ADAPTER_SCALE.to_owned(), state.model.adapter_scale.to_string());
    is_adapted.then_some(scale).into_iter().collect()
}

fn tensor<B: Backend>(
    parameter: &Parameter<B>,
    moments: Option<&Moments<B>>,
    grad_norm: Option<f64>,
) -> TensorState {
    let values = parameter.values();
    TensorState {
        name: parameter.name.clone(),
        group: parameter.group.clone(),
        shape: parameter.shape.iter().map(|&extent| extent as u64).collect(),
        dtype: "f32".to_owned(),
        trainable: parameter.trainable,
        optimized: moments.is_some(),
        decay: None,
        digest: Digest::new().values(&values).text(),
        moments: moments.map(|it| {
            let digest = Digest::new().values(&to_vec(it.first.clone())).values(&to_vec(it.second.clone()));
            digest.bytes(&it.updates.to_le_bytes()).text()
        }),
        grad_norm: grad_norm.map(Number),
        sketch: sketch(&values, SKETCHES).into_iter().map(Number).collect(),
    }
}

/// What an evaluation must not change, taken before it.
pub struct Before {
    digest: String,
    rng: String,
    dropped: u64,
}

impl Before {
    /// Digests of the state as it is now.
    pub fn of<E: Engine>(state: &State<E>) -> Self {
        Self { digest: state_digest(state), rng: rng_digest(state), dropped: state.dropout.dropped }
    }
}

/// An evaluation of some batches with the summed loss and the weight of each, and what it changed.
pub fn evaluation<E: Engine>(
    state: &State<E>,
    evaluated: &[Batch],
    before: Before,
    batches: &[(f64, u64)],
    metric: f64,
) -> Evaluation {
    let loss = |&(sum, weight): &(f64, u64)| Summed { name: "lm", sum, weight }.loss();
    Evaluation {
        step: state.step,
        samples: Some(evaluated.iter().flat_map(|batch| batch.samples.clone()).collect()),
        losses: batches.iter().map(loss).collect(),
        metric: Some(Number(metric)),
        digest_before: Some(before.digest),
        digest_after: Some(state_digest(state)),
        rng_before: Some(before.rng),
        rng_after: Some(rng_digest(state)),
        dropped: Some(state.dropout.dropped - before.dropped),
        ..Default::default()
    }
}

/// A checkpoint that was saved, loaded or deleted after `step` updates.
pub fn checkpoint(
    edge: CheckpointEdge,
    step: u64,
    cursor: Cursor,
    path: &Path,
    operations: u64,
    damaged: Vec<String>,
) -> Checkpoint {
    let place = (cursor.epoch, cursor.micro_batches);
    let checkpoint = Checkpoint::new(edge, step, place, path.display().to_string());
    Checkpoint { operations: Some(operations), damaged, ..checkpoint }
}

/// Caches of `bytes` were released.
pub fn released(bytes: u64, reason: String) -> Adapted {
    Adapted { what: Adaptation::Cache, from: bytes.into(), to: 0.into(), accumulation: None, reason }
}

/// The micro-batch has another size from here on.
pub fn regrouped(from: Grouping, to: Grouping, reason: String) -> Adapted {
    let accumulation = Some(to.accumulation);
    Adapted { what: Adaptation::Batch, from: from.batch.into(), to: to.batch.into(), accumulation, reason }
}

/// The devices that were given up. The memory in these events was read during the placement, before there was a trace.
pub fn given_up(left: Left, plan: &Plan) -> Vec<Event> {
    let sampled = plan.sample_memory.contains(&Boundary::Adaptation);
    let memory = |lanes| Event::Memory(Memory { at: Boundary::Adaptation, step: 0, lanes });
    let mut events = Vec::new();
    events.extend((sampled && !plan.devices.is_empty()).then(|| memory(left.before)));
    for (adapted, lanes) in left.moves {
        events.extend(adapted.map(Event::Adapted));
        events.extend(sampled.then(|| memory(lanes)));
    }
    events
}

fn trained_digest<E: Engine>(state: &State<E>) -> String {
    let trained = state.parameters.0.iter().filter(|parameter| parameter.trainable);
    trained.fold(Digest::new(), |digest, parameter| digest.values(&parameter.values())).text()
}

fn window_digest<B: Backend>(gradients: &[Option<Tensor<B, 2>>]) -> String {
    gradients.iter().flatten().fold(Digest::new(), |digest, it| digest.values(&to_vec(it.clone()))).text()
}

fn rng_digest<E: Engine>(state: &State<E>) -> String {
    let position = serde_json::to_vec(&Position::of(&state.dropout.rng)).unwrap_or_default();
    Digest::new().bytes(&position).text()
}

fn state_digest<E: Engine>(state: &State<E>) -> String {
    let mut digest = Digest::new();
    for (parameter, moments) in state.parameters.0.iter().zip(&state.optimizer.moments) {
        digest = digest.values(&parameter.values());
        if let Some(moments) = moments {
            digest = digest.values(&to_vec(moments.first.clone())).values(&to_vec(moments.second.clone()));
        }
    }
    digest.bytes(window_digest(&state.window.gradients).as_bytes()).text()
}
