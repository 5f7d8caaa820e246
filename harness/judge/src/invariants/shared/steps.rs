//! The updates of a run, one at a time, each with the contents of its window.

use std::mem;

use traintrue_protocol::contract::{Contract, Tail};
use traintrue_protocol::plan::Plan;
use traintrue_protocol::trace::event::{Edge, EndReason, Loss, MicroBatch, State, Update};
use traintrue_protocol::trace::{Event, Line, TraceError};
use traintrue_protocol::vocabulary::Moment;

use crate::arithmetic::Counts;
use crate::bound;
use crate::invariants::shared::stream::Stream;

/// One update, its window and the state after it.
pub(crate) struct Step {
    pub(crate) line: Line,
    pub(crate) update: Update,
    /// Ids of the samples in its window, sorted. None if the trace does not give them.
    pub(crate) samples: Option<Vec<u64>>,
    pub(crate) micro_batches: u64,
    /// The losses of its micro-batches.
    pub(crate) losses: Vec<Loss>,
    /// Positions of its window, padding included.
    pub(crate) positions: u64,
    /// The state after the update, and its line in the trace.
    pub(crate) state: Option<(Line, State)>,
}

/// The updates of a run, in order.
pub(crate) struct Steps<'a> {
    stream: Stream<'a>,
    pub(crate) plan: Plan,
    pub(crate) contract: Contract,
    /// What the tensors' extents add to the terms of a gradient (see `bound`). 0 until a state has been read.
    pub(crate) tensor_terms: u64,
    pub(crate) ended: Option<(Line, EndReason)>,
    samples: Option<Vec<u64>>,
    micro_batches: u64,
    losses: Vec<Loss>,
    positions: u64,
}

impl<'a> Steps<'a> {
    /// None if the traces have no run line.
    pub(crate) fn of(mut stream: Stream<'a>) -> Result<Option<Self>, TraceError> {
        Ok(stream.run()?.map(|run| Self {
            stream,
            plan: run.plan,
            contract: run.contract,
            tensor_terms: 0,
            ended: None,
            samples: Some(Vec::new()),
            micro_batches: 0,
            losses: Vec::new(),
            positions: 0,
        }))
    }

    pub(crate) fn counts(&self) -> Counts {
        Counts::of(&self.plan, &self.contract)
    }

    pub(crate) fn next(&mut self) -> Result<Option<Step>, TraceError> {
        while let Some(line) = self.stream.next()? {
            match &line.event {
                Event::MicroBatch(it) => self.take(it),
                Event::State(it) => self.measure(it),
                Event::Epoch(it) if it.edge == Edge::End && self.contract.tail == Tail::Drop => self.clear(),
                Event::End(it) => self.ended = Some((line.clone(), it.reason)),
                Event::Update(it) => {
                    let update = it.clone();
                    return self.step(line, update).map(Some);
                }
                _ => {}
            }
        }
        Ok(None)
    }

    fn take(&mut self, it: &MicroBatch) {
        self.micro_batches += 1;
        self.losses.extend(it.losses.iter().cloned());
        self.positions = self.positions.saturating_add(it.positions());
        self.samples = self.samples.take().zip(it.samples.as_ref()).map(|(mut all, more)| {
            all.extend(more);
            all
        });
    }

    fn measure(&mut self, it: &State) {
        let shapes = it.tensors.iter().map(|tensor| tensor.shape.as_slice());
        self.tensor_terms = self.tensor_terms.max(bound::gradient_terms(0, shapes));
    }

    fn clear(&mut self) {
        (self.samples, self.micro_batches, self.positions) = (Some(Vec::new()), 0, 0);
        self.losses.clear();
    }

    fn step(&mut self, line: Line, update: Update) -> Result<Step, TraceError> {
        let mut samples = self.samples.take();
        samples.iter_mut().for_each(|samples| samples.sort_unstable());
        let (micro_batches, positions) = (self.micro_batches, self.positions);
        let losses = mem::take(&mut self.losses);
        self.clear();
        let state = self.state_after(update.step)?;
        Ok(Step { line, update, samples, micro_batches, losses, positions, state })
    }

    /// The state after an update, if the trace has one before the next micro-batch.
    fn state_after(&mut self, step: u64) -> Result<Option<(Line, State)>, TraceError> {
        while let Some(line) = self.stream.next()? {
            match &line.event {
                Event::State(it) if it.at == Moment::Update && it.step == step => {
                    self.measure(it);
                    return Ok(Some((line.clone(), State::clone(it))));
                }
                Event::MicroBatch(_) | Event::Epoch(_) | Event::End(_) => {
                    self.stream.hold(line);
                    return Ok(None);
                }
                _ => {}
            }
        }
        Ok(None)
    }
}
