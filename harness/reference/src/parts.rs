//! The parts that the loop is made of. A fault replaces right parts by wrong ones.

use std::rc::Rc;

use crate::adapters::AdapterParts;
use crate::breaker::BreakerParts;
use crate::callback::Callback;
use crate::checkpoint::StoreParts;
use crate::data::{CollateParts, OrderParts};
use crate::engine::{Engine, Inner};
use crate::evaluation::EvaluationParts;
use crate::failure::FailureParts;
use crate::model::ForwardParts;
use crate::models::{self, Models};
use crate::optimizer::UpdateParts;
use crate::placement::PlacementParts;
use crate::ranks::RankParts;
use crate::resume::ResumeParts;
use crate::schedule::ScheduleParts;
use crate::state::State;
use crate::unchanged::Unchanged;
use crate::window::WindowParts;

/// All parts of the trainer.
pub struct Parts<E: Engine> {
    /// The order of the samples in an epoch.
    pub order: OrderParts,
    /// From samples to padded rows and labels.
    pub collate: CollateParts,
    /// The forward pass.
    pub forward: ForwardParts<E>,
    /// The gradient-accumulation window.
    pub window: WindowParts<Inner<E>>,
    /// What ranks that train together exchange.
    pub ranks: RankParts<Inner<E>>,
    /// The learning rate.
    pub schedule: ScheduleParts,
    /// Clipping and the optimizer's parameter groups.
    pub update: UpdateParts<Inner<E>>,
    /// Evaluation.
    pub evaluation: EvaluationParts,
    /// Capture and restore of the training state.
    pub resume: ResumeParts<E>,
    /// Loading of saved LoRA adapters.
    pub adapters: AdapterParts<Inner<E>>,
    /// The files of a checkpoint.
    pub store: StoreParts,
    /// The choice of a device.
    pub placement: PlacementParts,
    /// The reaction to an error.
    pub failure: FailureParts,
    /// Unloads a model that the cache may also hold.
    pub unload: fn(Rc<State<E>>, &mut Models<E>, &E::Device),
    /// The reaction to a peak above the plan's memory limit.
    pub breaker: BreakerParts,
    /// What only a fault replaces.
    pub unchanged: Unchanged,
    /// Called in order at each point of training.
    pub callbacks: Vec<Box<dyn Callback<E>>>,
}

impl<E: Engine> Parts<E> {
    /// The right parts.
    pub fn textbook() -> Self {
        Self {
            order: OrderParts::default(),
            collate: CollateParts::default(),
            forward: ForwardParts::default(),
            window: WindowParts::default(),
            ranks: RankParts::default(),
            schedule: ScheduleParts::default(),
            update: UpdateParts::default(),
            evaluation: EvaluationParts::default(),
            resume: ResumeParts::default(),
            adapters: AdapterParts::default(),
            store: StoreParts::default(),
            placement: PlacementParts::default(),
            failure: FailureParts::default(),
            unload: models::unload,
            breaker: BreakerParts::default(),
            unchanged: Unchanged::default(),
            callbacks: Vec::new(),
        }
    }

    /// Calls every callback.
    pub fn call(&mut self, call: impl Fn(&mut dyn Callback<E>)) {
        self.callbacks.iter_mut().for_each(|callback| call(callback.as_mut()));
    }
}
