//! The loop. It reads like a textbook, and it is made of parts.

use std::io::Write;
use std::mem;
use std::path::Path;

use burn::tensor::Tensor;
use traintrue::contract::Contract;
use traintrue::plan::{Boundary, Plan, ProbeAt, Restore, Start};
use traintrue::trace::Event;
use traintrue::trace::event::{CheckpointEdge, Cursor, Edge, EndReason, Oom};

use crate::adapters::adapter_file;
use crate::allowance::Allowance;
use crate::breaker::{Act, Breaker, Grouping};
use crate::checkpoint::{CheckpointError, Store};
use crate::data::{Batch, Counts, Shard, collate};
use crate::engine::{Engine, Inner};
use crate::error::TrainError;
use crate::estimate::{Micro, predict};
use crate::evaluation::{self, evaluate};
use crate::model::{Pass, Precision, losses, scalar};
use crate::observer::Forwarded;
use crate::optimizer::AdamW;
use crate::parts::Parts;
use crate::probe::probe;
use crate::recorder::{Recorder, Summed};
use crate::state::State;
use crate::turn::Turn;
use crate::window::{GradientSet, Place, Scales, Weights};
use crate::{resume, schedule};

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
    allowance: Allowance,
    shard: Shard,
    store: Store,
    state: State<E>,
    recorder: Recorder<'a, W>,
    began: Cursor,
    forwards: u64,
    /// Micro-batches an epoch in the plan's own grouping: what the schedule goes by.
    planned: u64,
    grouping: Grouping,
    breaker: Breaker,
    /// Collated once and kept for the next evaluation, as long as there is room.
    evaluation: Vec<Batch>,
    /// Last, so that the turn ends after every tensor is gone.
    turn: Turn,
}

impl<'a, E: Engine, W: Write> Trainer<'a, E, W> {
    /// A trainer at the beginning of its plan.
    pub fn new(
        plan: &'a Plan,
        contract: Contract,
        parts: Parts<E>,
        device: E::Device,
        allowance: Allowance,
        store: Store,
        recorder: Recorder<'a, W>,
    ) -> Result<Self, TrainError> {
        let turn = Turn::take();
        let state = State::fresh(plan, &parts, &device)?;
        let shard = Shard::new(parts.order, plan.seed, &plan.data, &plan.train);
        let (began, planned) = (state.cursor, shard.micro_batches);
        Ok(Self {
            plan,
            contract,
            parts,
            device,
            allowance,
            shard,
            store,
            state,
            recorder,
            began,
            forwards: 0,
            planned,
            grouping: Grouping { batch: plan.data.batch, accumulation: plan.train.accumulation },
            breaker: Breaker::default(),
            evaluation: Vec::new(),
            turn,
        })
    }

    /// Trains from the plan's start to its stop or its end. An error ends the trace, too.
    pub fn train(&mut self) -> Result<(), TrainError> {
        let done = self.run();
        if let Err(error) = &done {
            self.fail(error)?;
        }
        done
    }

    fn run(&mut self) -> Result<(), TrainError> {
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

    fn fail(&mut self, error: &TrainError) -> Result<(), TrainError> {
        if let Some(shortage) = (self.parts.failure.shortage)(error) {
            if let Some(folder) = self.plan.save_to.as_deref() {
                (self.parts.failure.rescue)(&mut self.store, folder)?;
            }
            let (device, requested_bytes) = (shortage.device, shortage.requested_bytes);
            self.recorder.write(Event::Oom(Oom { device, requested_bytes }))?;
        }
        Ok(self.recorder.end(EndReason::Error, Some(error.to_string()))?)
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
                let updated = self.micro_batch()?;
                if let Some(reason) = if updated { self.relieve()? } else { None } {
                    return Ok(reason);
                }
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

    /// Forward and backward of the next micro-batch; true where it closed its window.
    fn micro_batch(&mut self) -> Result<bool, TrainError> {
        let at = self.state.cursor;
        if self.state.window.counts.micro_batches == 0 {
            self.state.window.totals = self.look_ahead();
            self.recorder.begin_window();
        }
        let batch = self.batch(self.state.sampler_epoch, at.micro_batches);
        let keeps_cache = (self.parts.forward.keeps_cache)(self.plan.train.cache, self.forwards);
        let micro = Micro::of(&batch, &self.plan.train, keeps_cache);
        self.begin_peak(micro);
        let Computed { gradients, losses, cache_bytes } = self.forward_backward(&batch, micro)?;
        let first = self.forwards == 0;
        self.forwards += 1;

        (self.parts.window.accumulate)(&mut self.state.window.gradients, gradients, &self.plan.train);
        self.state.window.counts = self.state.window.counts.and(batch.counts);
        self.state.cursor.micro_batches += 1;
        self.state.schedule_step += (self.parts.schedule.steps_a_micro_batch)(&self.plan.train);
        self.recorder.micro_batch::<E>(at, &batch, &losses, cache_bytes)?;
        if first {
            self.recorder.memory(Boundary::Forward, self.state.step)?;
        }

        // What an update finds in memory does not depend on the batch that closed its window.
        drop((batch, losses));
        let closes = (self.parts.window.closes)(&self.place(at.micro_batches, self.state.window.counts));
        if closes {
            self.update()?;
        }
        Ok(closes)
    }

    /// After an update: does what memory asks for. The reason to end, where nothing is left to do.
    fn relieve(&mut self) -> Result<Option<EndReason>, TrainError> {
        let (Some(limit), Some(peaks)) = (self.plan.memory, self.recorder.peaks()) else {
            return Ok(None);
        };
        let bytes = (self.parts.breaker.reading)(peaks);
        let why = format!("the heap stood at {bytes} B in update {}, of {} B", self.state.step, limit.bytes);
        match self.breaker.judge(bytes, peaks, &limit, self.grouping) {
            Act::GoOn => {}
            Act::ReleaseCaches => {
                let kept: u64 = self.evaluation.iter().map(Batch::bytes).sum();
                self.recorder.memory(Boundary::Adaptation, self.state.step)?;
                (self.parts.breaker.release)(&mut self.evaluation);
                self.breaker.released();
                self.recorder.released(kept, why, self.state.step)?;
            }
            Act::Halve => {
                let from = self.grouping;
                self.breaker.halved(from);
                self.regroup((self.parts.breaker.halve)(from), why)?;
            }
            Act::Recover => {
                if let Some(before) = self.breaker.recovered() {
                    self.regroup(before, format!("{why}: twice the micro-batch fits again"))?;
                }
            }
            Act::Stop => {
                if let Some(folder) = self.plan.save_to.as_deref() {
                    self.save(folder)?;
                }
                return Ok(Some(EndReason::MemoryLimit));
            }
        }
        Ok(None)
    }

    /// Goes on with micro-batches of another size, from the same sample.
    fn regroup(&mut self, to: Grouping, why: String) -> Result<(), TrainError> {
        let from = mem::replace(&mut self.grouping, to);
        self.shard.regroup(&self.plan.data, to.batch);
        let done = self.state.cursor.micro_batches * from.batch / to.batch;
        self.state.cursor.micro_batches = done.min(self.shard.micro_batches);
        self.state.step = (self.parts.breaker.step)(self.state.step);
        Ok(self.recorder.regrouped(from, to, why, self.state.step)?)
    }

    /// Where the data stands in the plan's own micro-batches: what a checkpoint goes by.
    fn planned_cursor(&self) -> Cursor {
        let Cursor { epoch, micro_batches } = self.state.cursor;
        let done = (micro_batches * self.grouping.batch).div_ceil(self.plan.data.batch);
        Cursor { epoch, micro_batches: done.min(self.planned) }
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
            grouping: self.grouping,
            contract: &self.contract,
        }
    }

    fn batch(&mut self, epoch: u64, index: u64) -> Batch {
        let data = &self.plan.data;
        let samples = self.shard.samples(data, epoch, index);
        let contrastive = !self.plan.train.heads.is_empty();
        collate(&self.parts.collate, data, &data.samples, &data.padding, samples, contrastive)
    }

    /// Begins a memory peak, with what it is predicted to be.
    fn begin_peak(&mut self, micro: Micro) {
        let micro = (self.parts.estimate.taken_as)(micro);
        let State { model, parameters, window, .. } = &self.state;
        let accumulated = !window.gradients.is_empty();
        let predict =
            || E::ON_HEAP.then(|| predict(model, &parameters.0, &self.plan.train, micro, accumulated));
        self.recorder.before_forward(predict);
    }

    fn forward_backward(&mut self, batch: &Batch, micro: Micro) -> Result<Computed<'a, E>, TrainError> {
        let weights = self.state.parameters.leaves::<E>(Some(&self.turn));
        let losses = losses(&mut self.pass(&weights), batch, micro.forwards, micro.keeps_cache);
        self.allowance.check::<E>(&self.device)?;
        let own = (self.parts.window.weights)(&batch.counts);
        let scales = self.scales(own);
        let mut sums = vec![Summed { name: "lm", sum: scalar(&losses.lm), weight: own.lm }];
        if let Some(head) = &losses.head {
            sums.push(Summed { name: &self.plan.train.heads[0], sum: scalar(head), weight: own.head });
        }
        let cache_bytes = losses.caches.iter().map(crate::model::Cache::bytes).sum();
        let loss = scales.over(&losses);
        let forwarded = Forwarded { batch, loss: &loss, weights: &weights };
        self.parts.observers.iter_mut().for_each(|observer| observer.forwarded(&forwarded));
        let mut found = loss.backward();
        let gradients = weights.iter().map(|weight| weight.grad_remove(&mut found)).collect();
        self.allowance.check::<E>(&self.device)?;
        Ok(Computed { gradients, losses: sums, cache_bytes })
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
        let lr = schedule::lr(&self.parts.schedule, self.plan, &self.contract, self.planned, steps);
        let State { optimizer, parameters, .. } = &mut self.state;
        optimizer.step(parameters, &gradients, &self.plan.train, self.parts.update.decay, lr);
        self.state.step += 1;
        self.state.schedule_step += (self.parts.schedule.steps_an_update)(&self.plan.train);
        let step = self.state.step;
        self.parts.observers.iter_mut().for_each(|observer| observer.updated(step, &gradients));
        self.recorder.update(&self.state, &gradients, lr)?;
        (self.parts.window.after_update)(&mut self.state.window);
        // What an update leaves in memory does not depend on whether its gradients were clipped.
        drop(gradients);
        self.recorder.memory(Boundary::Update, step)?;

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
        let parameters = &self.state.parameters;
        self.parts.observers.iter_mut().for_each(|observer| observer.epoch_ended(parameters));
        Ok(self.recorder.epoch(self.state.cursor.epoch, Edge::End, self.state.step)?)
    }

    fn evaluate(&mut self) -> Result<(), TrainError> {
        let before = self.recorder.before_evaluation(&self.state);
        (self.parts.evaluation.begin)(&mut self.state.dropout);
        let weights = self.state.parameters.leaves::<E>(None);
        let collated = match mem::take(&mut self.evaluation) {
            none if none.is_empty() => evaluation::batches(&self.parts.collate, self.plan),
            kept => kept,
        };
        let batches = evaluate(&mut self.pass(&weights), &collated);
        if self.breaker.keeps_caches() {
            self.evaluation = collated;
        }
        (self.parts.evaluation.end)(&mut self.state.dropout);
        let metric = (self.parts.evaluation.metric)(&batches);
        self.parts.observers.iter_mut().for_each(|observer| observer.evaluated(&batches));
        self.recorder.evaluation(&self.state, before, &batches, metric)?;
        self.state.best = Some(self.state.best.map_or(metric, |best| best.min(metric)));
        Ok(())
    }

    fn save(&mut self, folder: &Path) -> Result<(), TrainError> {
        let cursor = (self.parts.resume.saved_cursor)(self.planned_cursor(), self.began);
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
