//! The loop. It reads like a textbook, and it is made of parts.

use std::io::Write;
use std::path::Path;

use burn::tensor::Tensor;
use traintrue::contract::Contract;
use traintrue::plan::{Forward, Plan, ProbeAt, Restore, Start};
use traintrue::trace::Event;
use traintrue::trace::event::{CheckpointEdge, Cursor, Edge, EndReason};

use crate::adapters::adapter_file;
use crate::checkpoint::{CheckpointError, Store};
use crate::data::{Batch, Counts, Shard, collate};
use crate::engine::{Engine, Inner};
use crate::error::TrainError;
use crate::evaluation::evaluate;
use crate::model::{Dropout, Losses, Model, Pass, Precision, losses, scalar};
use crate::optimizer::AdamW;
use crate::parts::Parts;
use crate::probe::probe;
use crate::recorder::{Recorder, Summed};
use crate::state::State;
use crate::window::{GradientSet, Place, Scales, Weights, Window};
use crate::{resume, rng, schedule};

/// What one forward and backward gives.
struct Computed<'a, E: Engine> {
    /// Of the scaled losses.
    gradients: GradientSet<Inner<E>>,
    /// Before any scaling.
    losses: Vec<Summed<'a>>,
    /// Of any cache that the forward kept.
    cache_bytes: u64,
}

/// A run of the loop.
pub struct Trainer<'a, E: Engine, W: Write> {
    plan: &'a Plan,
    contract: Contract,
    parts: Parts<E>,
    device: E::Device,
    shard: Shard,
    store: Store,
    state: State<E>,
    recorder: Recorder<'a, W>,
    began: Cursor,
    forwards: u64,
}

impl<'a, E: Engine, W: Write> Trainer<'a, E, W> {
    /// A trainer at the beginning of its plan.
    pub fn new(
        plan: &'a Plan,
        contract: Contract,
        parts: Parts<E>,
        device: E::Device,
        store: Store,
        recorder: Recorder<'a, W>,
    ) -> Result<Self, TrainError> {
        let (model, parameters) = Model::build(plan, &device)?;
        let state = State {
            model,
            optimizer: AdamW::over(&parameters, parts.update.optimizes),
            parameters,
            step: 0,
            schedule_step: 0,
            cursor: Cursor { epoch: 0, micro_batches: 0 },
            sampler_epoch: 0,
            window: Window::empty(),
            dropout: Dropout {
                rate: plan.train.dropout,
                active: true,
                rng: rng::dropout(plan.seed),
                dropped: 0,
            },
            best: None,
        };
        let shard = Shard::new(parts.order, plan.seed, &plan.data, &plan.train);
        let began = state.cursor;
        Ok(Self { plan, contract, parts, device, shard, store, state, recorder, began, forwards: 0 })
    }

    /// Trains from the plan's start to its stop or its end.
    pub fn train(&mut self) -> Result<(), TrainError> {
        self.start()?;
        self.probe(ProbeAt::Start)?;
        let reason = self.epochs()?;
        self.probe(ProbeAt::End)?;
        self.recorder.state(&self.state, "end")?;
        if let Some(folder) = self.plan.stop.as_ref().and_then(|stop| stop.save.as_deref()) {
            self.save(folder)?;
        }
        Ok(self.recorder.end(reason, None)?)
    }

    fn epochs(&mut self) -> Result<EndReason, TrainError> {
        if self.is_at_stop() {
            return Ok(EndReason::Stopped);
        }
        while self.next_epoch_if_done() {
            if self.state.cursor.micro_batches == 0 {
                self.recorder.epoch(self.state.cursor.epoch, Edge::Begin, self.state.step)?;
            }
            while self.state.cursor.micro_batches < self.shard.micro_batches {
                self.micro_batch()?;
                if self.state.cursor.micro_batches == self.shard.micro_batches {
                    self.end_epoch()?;
                }
                if self.is_at_stop() {
                    return Ok(EndReason::Stopped);
                }
            }
        }
        Ok(EndReason::Done)
    }

    /// Moves on from an epoch's end, and says whether there is more to do.
    fn next_epoch_if_done(&mut self) -> bool {
        if self.state.cursor.micro_batches == self.shard.micro_batches {
            self.state.cursor = Cursor { epoch: self.state.cursor.epoch + 1, micro_batches: 0 };
            self.state.sampler_epoch += 1;
        }
        self.shard.micro_batches > 0 && self.state.cursor.epoch < self.plan.data.epochs
    }

    /// The end of an epoch is the beginning of the next: a plan may stop at either.
    fn is_at_stop(&self) -> bool {
        let settled = |epoch, micro_batches| {
            if micro_batches < self.shard.micro_batches { (epoch, micro_batches) } else { (epoch + 1, 0) }
        };
        let Cursor { epoch, micro_batches } = self.state.cursor;
        let stop = self.plan.stop.as_ref();
        stop.is_some_and(|it| settled(it.epoch, it.micro_batches) == settled(epoch, micro_batches))
    }

    fn micro_batch(&mut self) -> Result<(), TrainError> {
        let at = self.state.cursor;
        if self.state.window.counts.micro_batches == 0 {
            self.state.window.totals = self.look_ahead();
        }
        let batch = self.batch(self.state.sampler_epoch, at.micro_batches);
        self.recorder.before_forward();
        let Computed { gradients, losses, cache_bytes } = self.forward_backward(&batch);
        let first = self.forwards == 0;
        self.forwards += 1;

        (self.parts.window.accumulate)(&mut self.state.window.gradients, gradients, &self.plan.train);
        self.state.window.counts = self.state.window.counts.and(batch.counts);
        self.state.cursor.micro_batches += 1;
        self.state.schedule_step += (self.parts.schedule.steps_a_micro_batch)(&self.plan.train);
        self.recorder.micro_batch::<E>(at, &batch, &losses, cache_bytes)?;
        if first {
            self.recorder.memory(traintrue::plan::Boundary::Forward, self.state.step)?;
        }

        if (self.parts.window.closes)(&self.place(at.micro_batches, self.state.window.counts)) {
            self.update()?;
        }
        Ok(())
    }

    /// What the window that opens here will count to when it closes.
    fn look_ahead(&mut self) -> Counts {
        let Cursor { mut epoch, micro_batches: mut index } = self.state.cursor;
        let mut counts = Counts::default();
        loop {
            let ahead = epoch - self.state.cursor.epoch;
            counts = counts.and(self.batch(self.state.sampler_epoch + ahead, index).counts);
            if (self.parts.window.closes)(&self.place(index, counts)) {
                break;
            }
            index += 1;
            if index == self.shard.micro_batches {
                (epoch, index) = (epoch + 1, 0);
            }
            if epoch == self.plan.data.epochs {
                break;
            }
        }
        (self.parts.window.totals)(counts, &self.plan.train)
    }

    fn place(&self, index: u64, counts: Counts) -> Place<'_> {
        Place {
            index,
            an_epoch: self.shard.micro_batches,
            counts,
            train: &self.plan.train,
            batch: self.plan.data.batch,
            contract: &self.contract,
        }
    }

    fn batch(&mut self, epoch: u64, index: u64) -> Batch {
        let data = &self.plan.data;
        let samples = self.shard.samples(data, epoch, index);
        collate(
            &self.parts.collate,
            data,
            &data.samples,
            &data.padding,
            samples,
            !self.plan.train.heads.is_empty(),
        )
    }

    fn forward_backward(&mut self, batch: &Batch) -> Computed<'a, E> {
        let keeps_cache = (self.parts.forward.keeps_cache)(self.plan.train.cache, self.forwards);
        let forwards = match self.plan.train.forward {
            Forward::Concatenated => 1,
            Forward::Separate => batch.rows.count / batch.samples.len(),
        };
        let weights = self.state.parameters.leaves::<E>(true);
        let losses = losses(&mut self.pass(&weights), batch, forwards, keeps_cache);
        let own = (self.parts.window.weights)(&batch.counts);
        let scales = self.scales(own);
        let mut sums = vec![Summed { name: "lm", sum: scalar(&losses.lm), weight: own.lm }];
        if let Some(head) = &losses.head {
            sums.push(Summed { name: &self.plan.train.heads[0], sum: scalar(head), weight: own.head });
        }
        let cache_bytes = losses.caches.iter().map(crate::model::Cache::bytes).sum();
        let mut found = scaled(&losses, scales).backward();
        let gradients = weights.iter().map(|weight| weight.grad_remove(&mut found)).collect();
        Computed { gradients, losses: sums, cache_bytes }
    }

    fn scales(&self, own: Weights) -> Scales {
        let totals = &self.state.window.totals;
        (self.parts.window.scales)(own, (self.parts.window.weights)(totals), totals, &self.contract)
    }

    fn pass<'p>(&'p mut self, weights: &'p [Tensor<E, 2>]) -> Pass<'p, E> {
        Pass {
            model: &self.state.model,
            weights,
            parts: &self.parts.forward,
            dropout: &mut self.state.dropout,
            precision: Precision(self.plan.train.dtype),
            device: &self.device,
        }
    }

    fn update(&mut self) -> Result<(), TrainError> {
        let mut gradients = self.state.window.gradients.clone();
        self.recorder.gradients(&gradients);
        (self.parts.update.clip)(&mut gradients, self.plan.train.clip);
        let steps = self.state.schedule_step;
        let lr =
            schedule::lr(&self.parts.schedule, self.plan, &self.contract, self.shard.micro_batches, steps);
        let State { optimizer, parameters, .. } = &mut self.state;
        optimizer.step(parameters, &gradients, &self.plan.train, self.parts.update.decay, lr);
        self.state.step += 1;
        self.state.schedule_step += (self.parts.schedule.steps_an_update)(&self.plan.train);
        self.recorder.update(&self.state, &gradients, lr)?;
        (self.parts.window.after_update)(&mut self.state.window);

        let due = |every: Option<u64>| every.is_some_and(|every| self.state.step.is_multiple_of(every));
        let (evaluation_due, save_due) = (due(self.plan.evaluate_every), due(self.plan.save_every));
        if due(self.plan.state_every) {
            self.recorder.state(&self.state, "update")?;
        }
        if evaluation_due {
            self.evaluate()?;
        }
        if save_due && let Some(folder) = self.plan.save_to.as_deref() {
            self.save(folder)?;
        }
        Ok(())
    }

    fn end_epoch(&mut self) -> Result<(), TrainError> {
        (self.parts.window.at_epoch_end)(&mut self.state.window, self.contract.tail);
        Ok(self.recorder.epoch(self.state.cursor.epoch, Edge::End, self.state.step)?)
    }

    fn evaluate(&mut self) -> Result<(), TrainError> {
        let before = self.recorder.before_evaluation(&self.state);
        (self.parts.evaluation.begin)(&mut self.state.dropout);
        let weights = self.state.parameters.leaves::<E>(false);
        let (collate, plan) = (self.parts.collate, self.plan);
        let batches = evaluate(&mut self.pass(&weights), &collate, plan);
        (self.parts.evaluation.end)(&mut self.state.dropout);
        let metric = (self.parts.evaluation.metric)(&batches);
        self.recorder.evaluation(&self.state, before, &batches, metric)?;
        self.state.best = Some(self.state.best.map_or(metric, |best| best.min(metric)));
        Ok(())
    }

    fn save(&mut self, folder: &Path) -> Result<(), TrainError> {
        let cursor = (self.parts.resume.saved_cursor)(self.state.cursor, self.began);
        let content = (self.parts.resume.capture)(&mut self.state, self.plan, cursor);
        let (path, removed) = self.store.save(folder, &content)?;
        let (step, operations) = (self.state.step, self.store.files.operations());
        self.recorder.checkpoint(CheckpointEdge::Saved, step, cursor, &path, operations, Vec::new())?;
        for path in removed {
            self.recorder.checkpoint(CheckpointEdge::Deleted, step, cursor, &path, operations, Vec::new())?;
        }
        Ok(())
    }

    fn start(&mut self) -> Result<(), TrainError> {
        let Some(Start { from, what }) = &self.plan.start else {
            return Ok(self.recorder.state(&self.state, "start")?);
        };
        let found = self.store.load(from)?;
        match what {
            Restore::Everything => {
                resume::restore(&self.parts.resume, &mut self.state, found.content, self.plan, &found.path)?;
            }
            Restore::Weights => {
                let file = adapter_file(&found.content, &found.path)?;
                let State { model, parameters, .. } = &mut self.state;
                (self.parts.adapters.load)(model, parameters, &file, self.plan)
                    .map_err(|problem| CheckpointError::Mismatch { path: found.path.clone(), problem })?;
                self.state.optimizer = AdamW::over(&self.state.parameters, self.parts.update.optimizes);
            }
        }
        self.began = self.state.cursor;
        let (step, cursor) = (self.state.step, self.state.cursor);
        self.recorder.checkpoint(CheckpointEdge::Loaded, step, cursor, &found.path, 0, found.damaged)?;
        Ok(self.recorder.state(&self.state, "loaded")?)
    }

    fn probe(&mut self, when: ProbeAt) -> Result<(), TrainError> {
        let at = if when == ProbeAt::Start { "start" } else { "end" };
        for wanted in self.plan.probes.iter().filter(|wanted| wanted.at == when || wanted.at == ProbeAt::Both)
        {
            let seen = probe(wanted, at, self.plan, &self.parts, &self.state, &self.device);
            self.recorder.write(Event::Probe(Box::new(seen)))?;
        }
        Ok(())
    }
}

fn scaled<E: Engine>(losses: &Losses<E>, scales: Scales) -> Tensor<E, 1> {
    let lm = losses.lm.clone() * scales.lm;
    match &losses.head {
        Some(head) => lm + head.clone() * scales.head,
        None => lm,
    }
}
