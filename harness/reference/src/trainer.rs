//! The training loop, made of parts. A fault replaces a part, so the loop has no `if fault`.

mod checkpoints;
mod passes;
mod peak;
mod relief;
mod upcoming;

use traintrue_protocol::Recorder;
use traintrue_protocol::contract::Contract;
use traintrue_protocol::plan::{Boundary, Plan, ProbeAt};
use traintrue_protocol::trace::event::{Cursor, Edge, End, EndReason, Epoch, MicroBatch, Update};
use traintrue_protocol::vocabulary::Moment;

use crate::allowance::Allowance;
use crate::breaker::{Breaker, Grouping};
use crate::checkpoint::Store;
use crate::data::{Batch, Shard};
use crate::engine::Engine;
use crate::error::TrainError;
use crate::events::{self, Unclipped};
use crate::meter::Meter;
use crate::operations::operations;
use crate::parts::Parts;
use crate::ranks::Ranks;
use crate::schedule;
use crate::state::State;
use crate::tensor_steps::{self, Added};
use crate::turn::Turn;
use passes::Computed;

/// A run of the loop.
pub struct Training<'a, 'w, E: Engine> {
    plan: &'a Plan,
    contract: Contract,
    parts: Parts<E>,
    device: E::Device,
    allowance: Allowance,
    shard: Shard,
    store: Store,
    ranks: Ranks,
    /// What each micro-batch of the open window added, where the update that closes it will be told.
    added: Vec<Added>,
    state: State<E>,
    recorder: &'a mut Recorder<'w>,
    meter: Meter,
    /// Norms of the last update's gradients, for the `state` events that follow it.
    unclipped: Unclipped,
    /// The position in the data where this process started.
    began: Cursor,
    /// Forward and backward passes of this process.
    forwards: u64,
    /// Micro-batches per epoch at the plan's own batch size, in which schedule and checkpoints count.
    planned: u64,
    grouping: Grouping,
    breaker: Breaker,
    /// The collated evaluation samples, kept until the breaker releases them.
    evaluation: Vec<Batch>,
    /// Last, so that the turn ends after every tensor is gone.
    turn: Turn,
}

/// The trainer's own conventions for a plan: a contrastive head makes three rows per sample.
pub fn own_contract(plan: &Plan) -> Contract {
    let rows_per_sample = if plan.train.heads.is_empty() { 1 } else { 3 };
    Contract { rows_per_sample, ..Contract::default() }
}

impl<'a, 'w, E: Engine> Training<'a, 'w, E> {
    /// A run at the beginning of its plan.
    pub fn new(
        plan: &'a Plan,
        parts: Parts<E>,
        device: E::Device,
        allowance: Allowance,
        store: Store,
        recorder: &'a mut Recorder<'w>,
        meter: Meter,
    ) -> Result<Self, TrainError> {
        let turn = Turn::take();
        let rank = plan.train.rank;
        let weights_seed = (parts.ranks.weights_seed)(plan.seed, rank);
        let draws_as = (parts.ranks.draws_as)(rank);
        let mut state = State::fresh(plan, weights_seed, draws_as, parts.update.optimizes, &device)?;
        (parts.adapters.fresh)(&mut state.parameters, plan);
        let shard = Shard::new(parts.order, plan.seed, &plan.data, &plan.train);
        Ok(Self {
            plan,
            contract: plan.contract.over(own_contract(plan)),
            parts,
            device,
            allowance,
            store,
            ranks: Ranks::join(&plan.train)?,
            added: Vec::new(),
            recorder,
            meter,
            unclipped: Unclipped::default(),
            began: state.cursor,
            forwards: 0,
            planned: shard.micro_batches,
            grouping: Grouping { batch: plan.data.batch, accumulation: plan.train.accumulation },
            breaker: Breaker::default(),
            evaluation: Vec::new(),
            shard,
            state,
            turn,
        })
    }

    /// Trains from the plan's start to its stop or its end. The recorder's owner writes the last line after an error.
    pub fn train(&mut self) -> Result<(), TrainError> {
        let device = self.device.clone();
        let ran = E::guarded(&device, || self.run());
        let trained = self.allowance.after::<E, _>(ran, &device).map_err(Into::into).flatten();
        if let Err(error) = &trained {
            self.out_of_memory(error)?;
        }
        trained
    }

    fn run(&mut self) -> Result<(), TrainError> {
        self.start()?;
        if self.plan.operations {
            for event in operations(self.plan, &self.parts, &self.device) {
                self.recorder.write(|| event)?;
            }
        }
        self.probe(ProbeAt::Start)?;
        let reason = self.epochs()?;
        self.probe(ProbeAt::End)?;
        self.tell_state(Moment::End)?;
        if let Some(folder) = self.plan.stop.as_ref().and_then(|stop| stop.save.as_deref()) {
            self.save(folder)?;
        }
        // What came after the last micro-batch may have failed too, and must not end as done.
        self.allowance.check::<E>(&self.device)?;
        Ok(self.recorder.write(|| End::new(reason, None))?)
    }

    fn epochs(&mut self) -> Result<EndReason, TrainError> {
        if self.is_at_stop() {
            return Ok(EndReason::Stopped);
        }
        while self.next_epoch_if_done() {
            // A resume in the middle of an epoch does not begin the epoch again.
            if self.state.cursor.micro_batches == 0 {
                self.epoch_edge(Edge::Begin)?;
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

    /// Moves on from the end of an epoch, and says whether an epoch is left.
    fn next_epoch_if_done(&mut self) -> bool {
        if self.state.cursor.micro_batches == self.shard.micro_batches {
            self.state.cursor = Cursor { epoch: self.state.cursor.epoch + 1, micro_batches: 0 };
            self.state.sampler_epoch += 1;
        }
        // An epoch without a micro-batch, from too few samples per rank, would begin and never end.
        self.shard.micro_batches > 0 && self.state.cursor.epoch < self.plan.data.epochs
    }

    /// Whether the plan stops here. The end of an epoch is the beginning of the next, and a plan may name either.
    fn is_at_stop(&self) -> bool {
        let settled = |epoch, micro_batches| {
            if micro_batches < self.shard.micro_batches { (epoch, micro_batches) } else { (epoch + 1, 0) }
        };
        let Cursor { epoch, micro_batches } = self.state.cursor;
        let stop = self.plan.stop.as_ref();
        stop.is_some_and(|it| settled(it.epoch, it.micro_batches) == settled(epoch, micro_batches))
    }

    /// The forward and backward pass of the next micro-batch. True where the micro-batch closed its window.
    fn micro_batch(&mut self) -> Result<bool, TrainError> {
        let at = self.state.cursor;
        if self.state.window.counts.micro_batches == 0 {
            self.state.window.totals = self.look_ahead()?;
            self.meter.begin_window();
        }
        let batch = self.batch(self.state.sampler_epoch, at.micro_batches);
        let keeps_cache = (self.parts.unchanged.keeps_cache)(self.plan.train.cache, self.forwards);
        self.begin_peak(&batch, keeps_cache);
        let Computed { gradients, losses, backward, cache_bytes, told: (told, dropout) } =
            self.forward_backward(&batch, keeps_cache)?;
        self.forwards += 1;

        let within = self.state.window.counts.micro_batches;
        self.state.window.counts = self.state.window.counts.and(batch.counts);
        let closes = (self.parts.window.closes)(&self.place(at.micro_batches, self.state.window.counts));
        if self.plan.train.together && tensor_steps::is_told(self.state.step + 1) {
            self.added.push(tensor_steps::added(&gradients));
        }
        if (self.parts.ranks.adds)(within, closes) {
            (self.parts.window.accumulate)(&mut self.state.window.gradients, gradients, &self.plan.train);
        }
        self.state.cursor.micro_batches += 1;
        self.state.schedule_step += (self.parts.unchanged.steps_per_micro_batch)(&self.plan.train);
        self.recorder.write(|| MicroBatch {
            told,
            dropout,
            backward,
            ..events::micro_batch::<E>(at, &batch, &losses, cache_bytes)
        })?;
        if self.forwards == 1 {
            self.recorder.memory_at(Boundary::Forward, self.state.step)?;
        }

        // Before the update, so that its memory does not depend on the batch that closed the window.
        drop((batch, losses));
        if (self.parts.ranks.averages)(closes) {
            self.average()?;
        }
        if closes {
            self.update()?;
        }
        Ok(closes)
    }

    /// Puts the mean over the ranks in the place of this rank's own gradients.
    fn average(&mut self) -> Result<(), TrainError> {
        if self.ranks.world == 1 {
            return Ok(());
        }
        let own = &mut self.state.window.gradients;
        (self.parts.ranks.before)(own, &self.plan.train);
        let all = self.ranks.gradients(&format!("update {}", self.state.step + 1), own)?;
        *own = (self.parts.ranks.mean)(all, self.ranks.rank);
        Ok(())
    }

    fn update(&mut self) -> Result<(), TrainError> {
        // A copy: the window keeps its own sum until `after_update` resets it.
        let mut gradients = self.state.window.gradients.clone();
        self.unclipped = Unclipped::of(&gradients);
        let told = tensor_steps::is_told(self.state.step + 1);
        let mut added = std::mem::take(&mut self.added);
        if added.len() as u64 != self.state.window.counts.micro_batches {
            // The window was opened by another process, and what it added is not known.
            added.clear();
        }
        let before = told.then(|| tensor_steps::Before::of(&self.state, &gradients, &added));
        (self.parts.update.clip)(&mut gradients, self.plan.train.clip);
        let steps = self.state.schedule_step;
        let lr = schedule::lr(&self.parts.schedule, self.plan, &self.contract, self.planned, steps);
        let State { optimizer, parameters, .. } = &mut self.state;
        (self.parts.update.step)(
            optimizer,
            parameters,
            &gradients,
            &self.plan.train,
            self.parts.update.decay,
            lr,
        );
        self.state.step += 1;
        self.state.schedule_step += (self.parts.unchanged.steps_per_update)(&self.plan.train);
        let step = self.state.step;
        self.parts.call(|callback| callback.updated(step, &gradients));
        self.meter.read_at_update();
        let tensors = before.map(|before| before.after(&self.state, &gradients)).unwrap_or_default();
        self.recorder
            .write(|| Update { tensors, ..events::update(&self.state, &self.unclipped, &gradients, lr) })?;
        (self.parts.window.after_update)(&mut self.state.window);
        // Before the sample, so that it does not depend on whether the gradients were clipped.
        drop(gradients);
        self.recorder.memory_at(Boundary::Update, step)?;
        self.after_update()
    }

    /// What the plan asks for every so many updates.
    fn after_update(&mut self) -> Result<(), TrainError> {
        let step = self.state.step;
        let is_due = |every: Option<u64>| every.is_some_and(|every| step.is_multiple_of(every));
        let save_due = is_due(self.plan.save_every);
        if is_due(self.plan.state_every) {
            self.tell_state(Moment::Update)?;
        }
        if self.plan.evaluate_every.is_some_and(|every| (self.parts.evaluation.is_due)(step, every)) {
            self.evaluate()?;
        }
        if save_due && let Some(folder) = self.plan.save_to.as_deref() {
            self.save(folder)?;
        }
        Ok(())
    }

    fn end_epoch(&mut self) -> Result<(), TrainError> {
        (self.parts.window.at_epoch_end)(&mut self.state.window, self.contract.tail);
        self.parts.call(|callback| callback.epoch_ended(&self.state.parameters));
        self.epoch_edge(Edge::End)
    }

    fn epoch_edge(&mut self, edge: Edge) -> Result<(), TrainError> {
        let epoch = self.state.cursor.epoch;
        self.recorder.write(|| Epoch { epoch, edge, loader: None, order: None })?;
        Ok(self.recorder.memory_at(Boundary::Epoch, self.state.step)?)
    }

    fn tell_state(&mut self, at: Moment) -> Result<(), TrainError> {
        Ok(self.recorder.write(|| events::state(&self.state, at, &self.unclipped))?)
    }
}
