//! Forward and backward passes: of training, of an evaluation and of probes.

use std::mem;

use burn::tensor::Tensor;
use traintrue_protocol::number::Number;
use traintrue_protocol::plan::{Boundary, ProbeAt};
use traintrue_protocol::trace::event::{Dropped, Evaluation, Row};

use super::Training;
use crate::callback::Forwarded;
use crate::data::Batch;
use crate::engine::{Engine, Inner};
use crate::error::TrainError;
use crate::evaluation::evaluate;
use crate::events::{self, Before, Summed};
use crate::model::{Cache, Pass, Precision, losses, rows, scalar};
use crate::prediction::{forwards, largest_bytes};
use crate::probe::probe;
use crate::told;
use crate::window::{GradientSet, Scales, Weights};

/// The result of one forward and backward pass.
pub(super) struct Computed<'a, E: Engine> {
    /// Of the scaled losses.
    pub gradients: GradientSet<Inner<E>>,
    /// Before scaling.
    pub losses: Vec<Summed<'a>>,
    /// The scaled loss, where ranks train together.
    pub backward: Option<Number>,
    /// Keys and values that the forward pass kept.
    pub cache_bytes: u64,
    /// What the trace gets of its rows and dropouts, where it is told.
    pub told: Told,
}

/// What was inside a forward pass.
pub(super) type Told = (Vec<Row>, Option<Vec<Dropped>>);

impl<'a, E: Engine> Training<'a, '_, E> {
    pub(super) fn forward_backward(
        &mut self,
        batch: &Batch,
        keeps_cache: bool,
    ) -> Result<Computed<'a, E>, TrainError> {
        let tells = told::tells(self.plan)
            && told::is_told(self.state.cursor.micro_batches, self.shard.micro_batches);
        self.state.dropout.told = tells.then(Vec::new);
        let weights = self.state.parameters.leaves::<E>(Some(&self.turn));
        let forwards = forwards(batch, &self.plan.train);
        self.fits(batch, forwards)?;
        let mut losses = losses(&mut Pass { tells, ..self.pass(&weights) }, batch, forwards, keeps_cache);
        let told = (mem::take(&mut losses.told), self.state.dropout.told.take());
        // Memory peaks here, where all activations are alive, or after the backward pass, where all gradients are.
        self.allowance.check::<E>(&self.device)?;
        let own = (self.parts.window.weights)(&batch.counts);
        let scales = self.scales(own);
        let mut sums = vec![Summed { name: "lm", sum: scalar(&losses.lm), weight: own.lm }];
        if let Some(head) = &losses.head {
            sums.push(Summed { name: &self.plan.train.heads[0], sum: scalar(head), weight: own.head });
        }
        let cache_bytes = losses.caches.iter().map(Cache::bytes).sum();
        let loss = scales.over(&losses);
        let backward = self.plan.train.together.then(|| Number(scalar(&loss)));
        let forwarded = Forwarded { batch, loss: &loss, weights: &weights };
        self.parts.call(|callback| callback.forwarded(&forwarded));
        let mut found = loss.backward();
        let gradients = weights.iter().map(|weight| weight.grad_remove(&mut found)).collect();
        self.allowance.check::<E>(&self.device)?;
        Ok(Computed { gradients, losses: sums, backward, cache_bytes, told })
    }

    /// Fails where the device cannot hold the largest tensor of a pass over `batch`.
    fn fits(&self, batch: &Batch, forwards: usize) -> Result<(), TrainError> {
        let vocabulary = self.plan.data.tokens.vocabulary;
        Ok(self.allowance.takes(largest_bytes(&self.state.model.size, vocabulary.into(), batch, forwards))?)
    }

    fn scales(&self, own: Weights) -> Scales {
        let totals = &self.state.window.totals;
        let scales =
            (self.parts.window.scales)(own, (self.parts.window.weights)(totals), totals, &self.contract);
        // Each rank divides by the counts of all ranks, and their mean is then the gradient of one large batch.
        scales.times(self.ranks.world as f64)
    }

    fn pass<'p>(&'p mut self, weights: &'p [Tensor<E, 2>]) -> Pass<'p, E> {
        Pass {
            model: &self.state.model,
            weights,
            parts: &self.parts.forward,
            dropout: &mut self.state.dropout,
            precision: Precision(self.plan.train.dtype),
            tells: false,
            device: &self.device,
        }
    }

    pub(super) fn evaluate(&mut self) -> Result<(), TrainError> {
        let before = Before::of(&self.state);
        (self.parts.evaluation.begin)(&mut self.state.dropout);
        let weights = self.state.parameters.leaves::<E>(None);
        let collated = match mem::take(&mut self.evaluation) {
            none if none.is_empty() => {
                let all = (self.parts.evaluation.batches)(&self.parts.collate, self.plan);
                (self.parts.ranks.evaluates)(all, self.ranks.rank, self.ranks.world)
            }
            kept => kept,
        };
        for batch in &collated {
            self.fits(batch, 1)?;
        }
        let batches = evaluate(&mut self.pass(&weights), &collated);
        (self.parts.evaluation.end)(&mut self.state.dropout);
        let at = format!("the evaluation after update {}", self.state.step);
        let all = self.ranks.losses(&at, &batches)?;
        let metric = (self.parts.evaluation.metric)(&(self.parts.ranks.measures)(batches.clone(), all));
        self.parts.call(|callback| callback.evaluated(&batches));
        let rows_told = if told::tells(self.plan) { told::OF_AN_EVALUATION } else { 0 };
        let of = |batch: &Batch| rows::<Inner<E>>(batch, None);
        self.recorder.write(|| Evaluation {
            told: collated.iter().flat_map(of).take(rows_told).collect(),
            ..events::evaluation(&self.state, &collated, before, &batches, metric)
        })?;
        if self.breaker.keeps_caches() {
            self.evaluation = collated;
        } else {
            // Before the sample of memory, so that it does not depend on the size of the set.
            drop(collated);
        }
        self.recorder.memory_at(Boundary::Evaluation, self.state.step)?;
        self.state.best = Some((self.parts.evaluation.best)(self.state.best, metric));
        Ok(())
    }

    pub(super) fn probe(&mut self, when: ProbeAt) -> Result<(), TrainError> {
        let at = if when == ProbeAt::Start { "start" } else { "end" };
        let due = |wanted: ProbeAt| wanted == when || wanted == ProbeAt::Both;
        for wanted in self.plan.probes.iter().filter(|wanted| due(wanted.at)) {
            let seen = || probe(wanted, at, self.plan, &self.parts, &self.state, &self.device);
            self.recorder.write(seen)?;
        }
        Ok(())
    }
}
