//! The loop: epochs, micro-batches, windows, updates, and what comes between them.

use std::path::Path;

use traintrue_protocol::contract::{Contract, Tail};
use traintrue_protocol::plan::ProbeAt;
use traintrue_protocol::trace::event::{
    Checkpoint, CheckpointEdge, Epoch, Evaluation, Loss, MicroBatch, Update,
};
use traintrue_protocol::vocabulary::Moment;
use traintrue_protocol::{Plan, Recorder, TrainerError};

use crate::Parts;
use crate::checkpoint::{self, Place};
use crate::data::{Batch, order};
use crate::model::{Model, Pass};
use crate::optimizer::Optimizer;
use crate::probe::probe;
use crate::schedule::{rate, updates};
use crate::seen::{self, Norms};
use crate::window::{Window, clipped, global_norm};

type Done = Result<(), TrainerError>;

/// A run.
pub struct Training<'a> {
    plan: &'a Plan,
    contract: Contract,
    model: Model,
    optimizer: Optimizer,
    window: Window,
    place: Place,
    norms: Norms,
}

impl<'a> Training<'a> {
    /// Afresh, or from a checkpoint.
    pub fn begin(
        parts: Parts,
        plan: &'a Plan,
        contract: Contract,
        recorder: &mut Recorder,
    ) -> Result<Self, TrainerError> {
        let model = Model::new(plan, parts.norm, parts.random)?;
        let optimizer = Optimizer::new(parts.adam, &plan.train.optimizer, &model.named)?;
        let (window, place, norms) = (Window::default(), Place::default(), Norms::new());
        let mut run = Self { plan, contract, model, optimizer, window, place, norms };
        let at = match &plan.start {
            None => Moment::Start,
            Some(start) => {
                let Self { model, optimizer, window, .. } = &mut run;
                run.place = checkpoint::load(&start.from, model, optimizer, window)?;
                run.checkpoint(CheckpointEdge::Loaded, &start.from, recorder)?;
                Moment::Loaded
            }
        };
        run.state(at, recorder)?;
        Ok(run)
    }

    /// From where it stands to the plan's end, or to its stop.
    pub fn train(mut self, recorder: &mut Recorder) -> Done {
        let plan = self.plan;
        self.probes(ProbeAt::Start, "start", recorder)?;
        let mut batches = order(plan, self.place.epoch);
        let length = batches.len() as u64;
        let updates = updates(plan, &self.contract, length);
        // The end of an epoch is the beginning of the next.
        let settled = |epoch, done| if done < length { (epoch, done) } else { (epoch + 1, 0) };
        let stop = plan.stop.as_ref().map(|stop| settled(stop.epoch, stop.micro_batches));
        while self.place.epoch < plan.data.epochs && Some((self.place.epoch, self.place.done)) != stop {
            let epoch = self.place.epoch;
            if self.place.done == 0 {
                recorder.write(|| Epoch::begin(epoch))?;
            }
            if let Some(samples) = batches.get(self.place.done as usize) {
                self.micro_batch(samples, recorder)?;
                self.place.done += 1;
            }
            let last = self.place.done >= length;
            let full = self.window.counts.micro_batches == plan.train.accumulation;
            let open = self.window.counts.micro_batches > 0;
            let updated = full || (last && open && self.contract.tail == Tail::Flush);
            if updated {
                self.update(rate(plan, &self.contract, updates, self.place.step), recorder)?;
            }
            if last {
                recorder.write(|| Epoch::end(epoch))?;
                (self.place.epoch, self.place.done) = (epoch + 1, 0);
                batches = order(plan, self.place.epoch);
                if self.contract.tail == Tail::Drop {
                    self.window = Window::default();
                }
            }
            let step = self.place.step;
            let due = |every: Option<u64>| updated && every.is_some_and(|every| step.is_multiple_of(every));
            if due(plan.evaluate_every) {
                self.evaluation(recorder)?;
            }
            if let Some(folder) = plan.save_to.as_deref().filter(|_| due(plan.save_every)) {
                self.save(folder, recorder)?;
            }
        }
        self.probes(ProbeAt::End, "end", recorder)?;
        self.state(Moment::End, recorder)?;
        match plan.stop.as_ref().and_then(|stop| stop.save.as_deref()) {
            Some(folder) => self.save(folder, recorder),
            None => Ok(()),
        }
    }

    /// Forward and backward.
    fn micro_batch(&mut self, samples: &[u64], recorder: &mut Recorder) -> Done {
        let data = &self.plan.data;
        let tokens: Vec<&[u32]> = samples.iter().map(|&id| &data.samples[id as usize][..]).collect();
        let batch = Batch::of(&tokens, data, &data.padding)?;
        let divisor = Window::divisor(&self.contract, batch.targets);
        let (sum, gradients) = self.model.backward(&batch, Pass::Training, divisor)?;
        self.window.add(gradients, batch.targets)?;
        Ok(recorder.write(|| MicroBatch {
            epoch: self.place.epoch,
            index: self.place.done,
            samples: Some(samples.to_vec()),
            rows: Some(batch.rows as u64),
            width: Some(batch.width as u64),
            tokens: Some(batch.tokens),
            targets: Some(batch.targets),
            losses: vec![loss(sum, batch.targets)],
            ..Default::default()
        })?)
    }

    /// One step of the optimizer on the window.
    fn update(&mut self, lr: f64, recorder: &mut Recorder) -> Done {
        let gradients = self.window.gathered(&self.contract)?;
        let window = std::mem::take(&mut self.window).counts;
        self.norms = seen::norms(&self.model, &gradients)?;
        let norm = global_norm(&gradients)?;
        let given = clipped(gradients, norm, self.plan.train.clip)?;
        self.place.step += 1;
        let step = self.place.step;
        self.optimizer.step(step, lr, &self.model.named, &given)?;
        let (clipped_norm, digest) = (global_norm(&given)?, seen::digest(&self.model)?);
        recorder.write(|| Update {
            step,
            micro_batches: Some(window.micro_batches),
            targets: Some(window.targets),
            lr: vec![lr.into(); 2],
            grad_norm: Some(norm.into()),
            clipped_norm: Some(clipped_norm.into()),
            applied: true,
            digest: Some(digest),
            ..Default::default()
        })?;
        match self.plan.state_every {
            Some(every) if step.is_multiple_of(every) => self.state(Moment::Update, recorder),
            _ => Ok(()),
        }
    }

    fn evaluation(&self, recorder: &mut Recorder) -> Done {
        let (data, dropout) = (&self.plan.data, &self.model.dropout);
        let (before, rng, dropped) = (seen::digest(&self.model)?, dropout.digest(), dropout.dropped.get());
        let mut losses = Vec::new();
        for samples in data.evaluation.chunks(data.batch as usize) {
            let samples: Vec<&[u32]> = samples.iter().map(Vec::as_slice).collect();
            let batch = Batch::of(&samples, data, &data.padding)?;
            let sum = self.model.losses(&batch, &self.model.logits(&batch, Pass::Outside)?)?.sum_all()?;
            losses.push((f64::from(sum.to_scalar::<f32>()?), batch.targets));
        }
        let (sum, targets) = losses.iter().fold((0.0, 0), |(sum, all), (loss, own)| (sum + loss, all + own));
        let after = seen::digest(&self.model)?;
        Ok(recorder.write(|| Evaluation {
            step: self.place.step,
            samples: Some((0..data.evaluation.len() as u64).collect()),
            losses: losses.iter().map(|&(sum, targets)| loss(sum, targets)).collect(),
            metric: Some((sum / targets.max(1) as f64).into()),
            digest_before: Some(before),
            digest_after: Some(after),
            rng_before: rng,
            rng_after: dropout.digest(),
            dropped: Some(dropout.dropped.get() - dropped),
            ..Evaluation::default()
        })?)
    }

    fn probes(&self, asked: ProbeAt, at: &str, recorder: &mut Recorder) -> Done {
        for it in self.plan.probes.iter().filter(|it| it.at == asked || it.at == ProbeAt::Both) {
            let made = probe(it, at, self.plan, &self.model)?;
            recorder.write(|| made)?;
        }
        Ok(())
    }

    fn state(&self, at: Moment, recorder: &mut Recorder) -> Done {
        let Self { place, model, optimizer, window, norms, .. } = self;
        let state = seen::state(at, *place, model, optimizer, window, norms)?;
        Ok(recorder.write(|| state)?)
    }

    fn save(&self, folder: &Path, recorder: &mut Recorder) -> Done {
        checkpoint::save(folder, self.place, &self.model, &self.optimizer, &self.window)?;
        self.checkpoint(CheckpointEdge::Saved, folder, recorder)
    }

    fn checkpoint(&self, edge: CheckpointEdge, folder: &Path, recorder: &mut Recorder) -> Done {
        let Place { step, epoch, done: micro_batches } = self.place;
        let path = folder.display().to_string();
        let (operations, damaged) = (None, Vec::new());
        Ok(recorder.write(|| Checkpoint { edge, step, epoch, micro_batches, path, operations, damaged })?)
    }
}

/// The language-model loss of a batch.
fn loss(sum: f64, targets: u64) -> Loss {
    Loss::new("lm", sum, targets)
}
