//! The parts that the loop is made of. A fault is a set of wrong parts in the place of right ones.

use std::rc::Rc;

use traintrue_protocol::plan::Train;

use crate::adapters::AdapterParts;
use crate::breaker::BreakerParts;
use crate::checkpoint::StoreParts;
use crate::cycle::{self, Models};
use crate::data::{CollateParts, OrderParts};
use crate::engine::{Engine, Inner};
use crate::evaluation::EvaluationParts;
use crate::failure::FailureParts;
use crate::model::ForwardParts;
use crate::observer::Observer;
use crate::optimizer::UpdateParts;
use crate::placement::PlacementParts;
use crate::prediction::EstimateParts;
use crate::resume::ResumeParts;
use crate::schedule::ScheduleParts;
use crate::state::State;
use crate::window::WindowParts;

/// All parts of the trainer.
pub struct Parts<E: Engine> {
    /// Which samples come when.
    pub order: OrderParts,
    /// Samples to rows and labels.
    pub collate: CollateParts,
    /// The forward pass.
    pub forward: ForwardParts<E>,
    /// The accumulation window.
    pub window: WindowParts<Inner<E>>,
    /// The learning rate.
    pub schedule: ScheduleParts,
    /// Clipping and the optimizer's groups.
    pub update: UpdateParts<Inner<E>>,
    /// Evaluation.
    pub evaluation: EvaluationParts,
    /// What a checkpoint gives back.
    pub resume: ResumeParts<E>,
    /// Published adapters.
    pub adapters: AdapterParts<Inner<E>>,
    /// Files of a checkpoint.
    pub store: StoreParts,
    /// What memory is predicted to be needed.
    pub estimate: EstimateParts,
    /// The choice of a device.
    pub placement: PlacementParts,
    /// What follows an error.
    pub failure: FailureParts,
    /// Unloads a model that the cache may have, too.
    pub unload: fn(Rc<State<E>>, &mut Models<E>, &E::Device),
    /// Whether activations are recomputed in the backward pass.
    pub recomputes: fn(&Train) -> bool,
    /// What is done where memory runs short.
    pub breaker: BreakerParts,
    /// Whoever looks on.
    pub observers: Vec<Box<dyn Observer<E>>>,
}

impl<E: Engine> Parts<E> {
    /// The right parts.
    pub fn textbook() -> Self {
        Self {
            order: OrderParts::default(),
            collate: CollateParts::default(),
            forward: ForwardParts::default(),
            window: WindowParts::default(),
            schedule: ScheduleParts::default(),
            update: UpdateParts::default(),
            evaluation: EvaluationParts::default(),
            resume: ResumeParts::default(),
            adapters: AdapterParts::default(),
            store: StoreParts::default(),
            estimate: EstimateParts::default(),
            placement: PlacementParts::default(),
            failure: FailureParts::default(),
            unload: cycle::unload,
            recomputes: |train| train.checkpointing,
            breaker: BreakerParts::default(),
            observers: Vec::new(),
        }
    }
}
