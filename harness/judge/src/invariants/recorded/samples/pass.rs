//! One pass of a loader over its samples.

use std::collections::HashMap;
use std::collections::hash_map::DefaultHasher;
use std::hash::{Hash, Hasher};

use traintrue_protocol::trace::Line;
use traintrue_protocol::trace::event::MicroBatch;
use traintrue_protocol::trace::recorded::Order as Kind;

/// Passes over more distinct samples are not followed: the judge keeps a count for each.
const DISTINCT_MOST: usize = 1 << 22;

/// What a loader gave since it was begun.
pub(super) struct Pass {
    pub(super) epoch: u64,
    /// Whether the trace has it from its beginning.
    pub(super) whole: bool,
    /// The order that its loader asks for.
    pub(super) kind: Option<Kind>,
    /// The last pass of the trace that had ended when this one began.
    pub(super) before: Option<Order>,
    /// How often each sample was drawn; none where there are too many.
    pub(super) drawn: Option<HashMap<u64, u64>>,
    /// Batches drawn, of those that were trained.
    pub(super) batches: u64,
    /// A sample in a batch of others that was drawn before, and the first batch that shows it. The pass's last batch does
    /// not count: a sampler may fill it up.
    pub(super) again: Option<(u64, Line)>,
    filled_up: Option<(u64, Line)>,
    pub(super) first: Option<(Vec<u64>, Line)>,
    /// Whether every batch is the first one.
    pub(super) is_one_batch: bool,
    last_index: Option<u64>,
    order: DefaultHasher,
    ascends: bool,
    last_sample: Option<u64>,
    pub(super) largest: u64,
    /// The first optimizer that it trains with.
    trains: Option<u64>,
}

/// The order of a whole pass.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) struct Order {
    pub(super) epoch: u64,
    trains: Option<u64>,
    hash: u64,
}

impl Pass {
    /// One that begins with the epoch of its loader.
    pub(super) fn begun(epoch: u64, kind: Option<Kind>, before: Option<Order>) -> Self {
        Self { whole: true, kind, ..Self::new(epoch, before) }
    }

    /// One that the trace has from some batch on.
    pub(super) fn new(epoch: u64, before: Option<Order>) -> Self {
        Self {
            epoch,
            whole: false,
            kind: None,
            before,
            drawn: Some(HashMap::new()),
            batches: 0,
            again: None,
            filled_up: None,
            first: None,
            is_one_batch: true,
            last_index: None,
            order: DefaultHasher::new(),
            ascends: true,
            last_sample: None,
            largest: 0,
            trains: None,
        }
    }

    pub(super) fn add(&mut self, it: &MicroBatch, samples: &[u64], line: &Line) {
        // A GAN and adversarial training go over one drawn batch several times.
        if self.last_index == Some(it.index) {
            return;
        }
        self.last_index = Some(it.index);
        self.trains = self.trains.or(it.optimizers.first().copied());
        self.batches += 1;
        match &self.first {
            None => self.first = Some((samples.to_vec(), line.clone())),
            Some((first, _)) => self.is_one_batch &= first == samples,
        }
        self.again = self.again.take().or(self.filled_up.take());
        self.count(samples, line);
        for &id in samples {
            id.hash(&mut self.order);
            self.ascends &= self.last_sample.is_none_or(|last| last < id);
            self.last_sample = Some(id);
            self.largest = self.largest.max(id);
        }
    }

    fn count(&mut self, samples: &[u64], line: &Line) {
        let Some(drawn) = &mut self.drawn else { return };
        let known = samples.iter().filter(|id| drawn.contains_key(id)).count();
        // A whole batch that comes again is trained again on purpose, as in several passes over one batch.
        let again = samples.iter().find(|id| drawn.contains_key(id)).filter(|_| known < samples.len());
        self.filled_up = again.map(|&id| (id, line.clone()));
        samples.iter().for_each(|&id| *drawn.entry(id).or_default() += 1);
        if drawn.len() > DISTINCT_MOST {
            self.drawn = None;
        }
    }

    /// Distinct samples; 0 where they are not counted.
    pub(super) fn distinct(&self) -> u64 {
        self.drawn.as_ref().map_or(0, |drawn| drawn.len() as u64)
    }

    /// The order of the samples, unless it is the dataset's.
    pub(super) fn order(&self) -> Option<Order> {
        let hash = self.order.finish();
        (!self.ascends).then_some(Order { epoch: self.epoch, trains: self.trains, hash })
    }

    /// Whether both train one model in one order. Cross-validation seeds each fold's new model and loader alike, on
    /// purpose.
    pub(super) fn has_order_of(&self, other: Order) -> bool {
        self.order().is_some_and(|order| (order.hash, order.trains) == (other.hash, other.trains))
    }

    /// How often every sample was drawn, where that is one number or multiples of it.
    pub(super) fn comes_each(&self, times: u64) -> bool {
        self.drawn.as_ref().is_some_and(|drawn| drawn.values().all(|count| count.is_multiple_of(times)))
    }
}
