//! The one recorder: every number in a trace is computed here, from the trainer's real state.

use std::io::{self, Write};
use std::path::Path;

use burn::tensor::Tensor;
use burn::tensor::backend::Backend;
use traintrue_memory::estimate;
use traintrue_protocol::contract::Contract;
use traintrue_protocol::digest::{Digest, sketch};
use traintrue_protocol::lanes::{self, Lanes, heap};
use traintrue_protocol::number::Number;
use traintrue_protocol::plan::{Boundary, Plan, SCHEMA};
use traintrue_protocol::trace::event::{
    Adapted, Checkpoint, CheckpointEdge, Cursor, Edge, End, EndReason, Epoch, Evaluation, Loss, Memory,
    MicroBatch, Run, TensorState, Update,
};
use traintrue_protocol::trace::{Event, TraceWriter, event};
use traintrue_protocol::vocabulary::{Adaptation, Moment};

use crate::breaker::{Grouping, Peaks};
use crate::data::Batch;
use crate::engine::{Engine, Inner};
use crate::model::to_vec;
use crate::optimizer::{global_norm, norm};
use crate::placement::Left;
use crate::rng::Position;
use crate::state::State;
use crate::window::GradientSet;

/// Sums in the sketch of a tensor.
pub const SKETCHES: u64 = 4;

/// Writes the trace of one run.
pub struct Recorder<'a, W: Write> {
    to: TraceWriter<W>,
    plan: &'a Plan,
    /// What the device's own memory holds.
    of_device: Box<dyn Fn() -> Lanes>,
    gradient_norms: Vec<Option<f64>>,
    global: f64,
    peaks: Option<Peaks>,
    /// What the heap held before the model was built.
    before_model_bytes: u64,
    /// Of the micro-batch since the last peak was begun.
    prediction: Option<estimate::Peaks>,
}

/// A summed loss with the weight that the loop divides it by.
pub struct Summed<'a> {
    /// `lm`, or the name of the head.
    pub name: &'a str,
    /// The sum, in nats.
    pub sum: f64,
    /// Supervised positions, or samples.
    pub weight: u64,
}

impl Summed<'_> {
    fn loss(&self) -> Loss {
        Loss::new(self.name, self.sum, self.weight)
    }
}

/// Digests taken before an evaluation.
pub struct Before {
    digest: String,
    rng: String,
    dropped: u64,
}

impl<'a, W: Write> Recorder<'a, W> {
    /// A recorder that writes to `to`; `of_device` reads what the device's own memory holds.
    pub fn new(to: W, plan: &'a Plan, of_device: Box<dyn Fn() -> Lanes>) -> Self {
        Self {
            to: TraceWriter::new(to),
            plan,
            of_device,
            gradient_norms: Vec::new(),
            global: 0.0,
            peaks: None,
            before_model_bytes: heap::now().map_or(0, |heap| heap.bytes),
            prediction: None,
        }
    }

    /// Writes an event as it is.
    pub fn write(&mut self, event: Event) -> io::Result<()> {
        self.to.write(&event)
    }

    /// The first line.
    pub fn run(&mut self, trainer: &str, device: &str, contract: &Contract) -> io::Result<()> {
        self.write(Event::Run(Box::new(Run {
            schema: SCHEMA,
            trainer: trainer.to_owned(),
            device: device.to_owned(),
            scenario: self.plan.scenario.clone(),
            run: self.plan.run.clone(),
            plan: self.plan.clone(),
            recorded: None,
            contract: contract.clone(),
        })))
    }

    /// An edge of an epoch, and the memory there.
    pub fn epoch(&mut self, epoch: u64, edge: Edge, step: u64) -> io::Result<()> {
        self.write(Event::Epoch(Epoch { epoch, edge }))?;
        self.memory(Boundary::Epoch, step)
    }

    /// A forward and backward.
    pub fn micro_batch<E: Engine>(
        &mut self,
        at: Cursor,
        batch: &Batch,
        losses: &[Summed],
        cache_bytes: u64,
    ) -> io::Result<()> {
        self.write(Event::MicroBatch(MicroBatch {
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
        }))
    }

    /// Looks at the gradients of an update before they are clipped.
    pub fn gradients<B: Backend>(&mut self, gradients: &GradientSet<B>) {
        self.gradient_norms = gradients.iter().map(|gradient| gradient.as_ref().map(norm)).collect();
        self.global = global_norm(gradients);
    }

    /// An update that was applied with these gradients, at this rate.
    pub fn update<E: Engine>(
        &mut self,
        state: &State<E>,
        given: &GradientSet<Inner<E>>,
        lr: f64,
    ) -> io::Result<()> {
        self.peaks = heap::now().map(|heap| {
            let before = self.peaks.map_or(0, |peaks| peaks.run_bytes);
            Peaks {
                window_bytes: heap.peak_bytes,
                run_bytes: heap.peak_bytes.max(before),
                held_bytes: heap.bytes,
            }
        });
        self.write(Event::Update(Update {
            step: state.step,
            micro_batches: Some(state.window.counts.micro_batches),
            targets: Some(state.window.counts.targets),
            lr: vec![Number(lr)],
            grad_norm: Some(Number(self.global)),
            clipped_norm: Some(Number(global_norm(given))),
            applied: true,
            digest: Some(trained_digest(state)),
        }))
    }

    /// Everything that the next update depends on.
    pub fn state<E: Engine>(&mut self, state: &State<E>, at: Moment) -> io::Result<()> {
        let tensors = state.parameters.0.iter().enumerate().map(|(place, parameter)| {
            let values = parameter.values();
            let moments = state.optimizer.moments[place].as_ref();
            TensorState {
                name: parameter.name.clone(),
                group: parameter.group.clone(),
                shape: parameter.shape.iter().map(|&extent| extent as u64).collect(),
                dtype: "f32".to_owned(),
                trainable: parameter.trainable,
                optimized: moments.is_some(),
                digest: Digest::new().values(&values).text(),
                moments: moments.map(|it| {
                    let digest =
                        Digest::new().values(&to_vec(it.first.clone())).values(&to_vec(it.second.clone()));
                    digest.bytes(&it.updates.to_le_bytes()).text()
                }),
                grad_norm: self.gradient_norms.get(place).copied().flatten().map(Number),
                sketch: sketch(&values, SKETCHES).into_iter().map(Number).collect(),
            }
        });
        let tensors = tensors.collect();
        self.write(Event::State(Box::new(event::State {
            at,
            step: state.step,
            tensors,
            rng: Some(rng_digest(state)),
            schedule_step: Some(state.schedule_step),
            cursor: Some(state.cursor),
            window: Some(state.window.counts.micro_batches),
            window_digest: Some(window_digest(&state.window.gradients)),
            best: state.best.map(Number),
            scaler: None,
            ema: None,
        })))
    }

    /// The state before an evaluation.
    pub fn before_evaluation<E: Engine>(&self, state: &State<E>) -> Before {
        Before { digest: state_digest(state), rng: rng_digest(state), dropped: state.dropout.dropped }
    }

    /// An evaluation, and what it changed.
    pub fn evaluation<E: Engine>(
        &mut self,
        state: &State<E>,
        before: Before,
        batches: &[(f64, u64)],
        metric: f64,
    ) -> io::Result<()> {
        let loss = |&(sum, weight): &(f64, u64)| Summed { name: "lm", sum, weight }.loss();
        self.write(Event::Evaluation(Evaluation {
            step: state.step,
            samples: Some((0..self.plan.data.evaluation.len() as u64).collect()),
            losses: batches.iter().map(loss).collect(),
            metric: Some(Number(metric)),
            digest_before: Some(before.digest),
            digest_after: Some(state_digest(state)),
            rng_before: Some(before.rng),
            rng_after: Some(rng_digest(state)),
            dropped: Some(state.dropout.dropped - before.dropped),
        }))?;
        self.memory(Boundary::Evaluation, state.step)
    }

    /// A checkpoint was written, read or removed.
    pub fn checkpoint(
        &mut self,
        edge: CheckpointEdge,
        step: u64,
        cursor: Cursor,
        path: &Path,
        operations: u64,
        damaged: Vec<String>,
    ) -> io::Result<()> {
        self.write(Event::Checkpoint(Checkpoint {
            edge,
            step,
            epoch: cursor.epoch,
            micro_batches: cursor.micro_batches,
            path: path.display().to_string(),
            operations: Some(operations),
            damaged,
        }))?;
        self.memory(Boundary::Checkpoint, step)
    }

    /// Begins a new memory peak for a window, where the run has a limit to keep.
    pub fn begin_window(&self) {
        if self.plan.memory.is_some() {
            heap::begin_peak();
        }
    }

    /// The heap's highest at the last update and of the run; nothing where the heap is not counted.
    pub fn peaks(&self) -> Option<Peaks> {
        self.peaks
    }

    /// Caches of so many bytes were released.
    pub fn released(&mut self, bytes: u64, reason: String, step: u64) -> io::Result<()> {
        let (from, to) = (bytes.into(), 0.into());
        let accumulation = None;
        self.write(Event::Adapted(Adapted { what: Adaptation::Cache, from, to, accumulation, reason }))?;
        self.memory(Boundary::Adaptation, step)
    }

    /// Micro-batches are of another size from here on.
    pub fn regrouped(&mut self, from: Grouping, to: Grouping, reason: String, step: u64) -> io::Result<()> {
        let accumulation = Some(to.accumulation);
        let (from, to) = (from.batch.into(), to.batch.into());
        self.write(Event::Adapted(Adapted { what: Adaptation::Batch, from, to, accumulation, reason }))?;
        self.memory(Boundary::Adaptation, step)
    }

    /// Begins a new memory peak, where the plan asks for the peak of a forward; what it is predicted to be is written beside
    /// the measures that end it.
    pub fn before_forward(&mut self, predict: impl FnOnce() -> Option<estimate::Peaks>) {
        if self.plan.sample_memory.contains(&Boundary::Forward) {
            self.prediction = predict();
            heap::begin_peak();
        }
    }

    /// Memory at a boundary, where the plan asks for it.
    pub fn memory(&mut self, at: Boundary, step: u64) -> io::Result<()> {
        if !self.plan.sample_memory.contains(&at) {
            return Ok(());
        }
        // Before the process's own: it may have waited for the device.
        let of_device = (self.of_device)();
        let mut lanes = lanes::of_this_process();
        let predicted = self.prediction.and_then(|it| match at {
            Boundary::Forward => Some(it.passes_bytes),
            Boundary::Update => Some(it.passes_bytes.max(it.update_bytes)),
            _ => None,
        });
        if let Some(bytes) = predicted {
            lanes.insert("estimate_bytes".to_owned(), Some(self.before_model_bytes + bytes));
        }
        lanes.extend(of_device);
        self.write(Event::Memory(Memory { at, step, lanes }))
    }

    /// The devices that were given up before this one, and the memory then.
    pub fn left(&mut self, left: Left) -> io::Result<()> {
        let sampled = self.plan.sample_memory.contains(&Boundary::Adaptation);
        let memory = |lanes| Event::Memory(Memory { at: Boundary::Adaptation, step: 0, lanes });
        if sampled && !self.plan.devices.is_empty() {
            self.write(memory(left.before))?;
        }
        for (adapted, lanes) in left.moves {
            if let Some(adapted) = adapted {
                self.write(Event::Adapted(adapted))?;
            }
            if sampled {
                self.write(memory(lanes))?;
            }
        }
        Ok(())
    }

    /// The last line.
    pub fn end(&mut self, reason: EndReason, message: Option<String>) -> io::Result<()> {
        self.write(Event::End(End { reason, message }))
    }
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
