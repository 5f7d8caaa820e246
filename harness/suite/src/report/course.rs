//! What training looked like, update by update: the loss, the learning rate and the gradient norm of one run.
//!
//! A trace is read once, line by line. Curves are kept, and the exact values of the few updates that are asked for.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::RangeInclusive;

use traintrue_judge::rule::RunEvidence;
use traintrue_protocol::number::Number;
use traintrue_protocol::trace::event::{MicroBatch, Update};
use traintrue_protocol::trace::{Event, TraceError, TraceReader};

use super::curve::Curve;

/// More curves than this are not told apart in one panel.
const CURVES_MOST: usize = 4;

/// What is drawn over updates.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Quantity {
    Loss,
    Rate,
    Norm,
}

impl Quantity {
    pub(super) const ALL: [Self; 3] = [Self::Loss, Self::Rate, Self::Norm];

    pub(super) fn name(self) -> &'static str {
        match self {
            Self::Loss => "loss",
            Self::Rate => "learning rate",
            Self::Norm => "gradient norm",
        }
    }
}

/// The values of one update.
#[derive(Clone, Debug, Default, PartialEq)]
pub(super) struct Values(Vec<(Quantity, f64)>);

/// A place in one of the traces of a run: the segment, from 0, and the line, from 1.
pub(super) type Place = (usize, u64);

/// What is wanted of the traces of a run.
#[derive(Debug, Default)]
pub(super) struct Reading {
    /// The updates done where the last recording of a script goes on: its trace counts from 1 again.
    pub(super) resumed_from: Option<u64>,
    /// A place whose update is looked for.
    pub(super) place: Option<Place>,
    /// Updates whose values are wanted exactly.
    pub(super) asked: BTreeSet<u64>,
    /// The updates of the curves; all of them if there is no range.
    pub(super) within: Option<RangeInclusive<u64>>,
}

/// One run.
#[derive(Debug, Default)]
pub(super) struct Course {
    /// By quantity, optimizer and parameter group.
    curves: BTreeMap<(Quantity, u64, usize), Curve>,
    /// The updates done where a later process goes on.
    pub(super) seams: Vec<u64>,
    /// The update that the place belongs to: the one that a micro-batch is for, or the last one done.
    pub(super) update: Option<u64>,
    /// The values of the updates that were asked for, and of `update`.
    values: BTreeMap<u64, Values>,
}

impl Course {
    /// Reads the traces of a run. A trace that breaks off is read up to there. Fails if a trace cannot be opened.
    pub(super) fn read(run: &RunEvidence, wanted: &Reading) -> Result<Self, TraceError> {
        let mut course = Self::default();
        let (mut done, mut latest) = (0, Values::default());
        for (segment, path) in run.segments.iter().enumerate() {
            let (mut window, mut counted_before, mut begun) = (Window::default(), 0, false);
            // The place is a micro-batch: it belongs to the update that comes.
            let mut awaits = false;
            for line in TraceReader::open(path)?.map_while(Result::ok) {
                let is_place = wanted.place == Some((segment, line.number));
                match &line.event {
                    Event::Run(it) if segment > 0 && it.recorded.is_some() => {
                        counted_before = wanted.resumed_from.unwrap_or(done);
                    }
                    Event::MicroBatch(it) => {
                        window.add(it);
                        awaits |= is_place;
                        continue;
                    }
                    Event::Update(it) => {
                        let update = it.step.saturating_add(counted_before);
                        if segment > 0 && !begun {
                            course.seams.push(update.saturating_sub(1));
                        }
                        (done, begun) = (update, true);
                        let drawn = wanted.within.as_ref().is_none_or(|within| within.contains(&update));
                        latest = course.see(update, it, window.close(), drawn);
                        if wanted.asked.contains(&update) {
                            course.values.insert(update, latest.clone());
                        }
                        if !(is_place || std::mem::take(&mut awaits)) {
                            continue;
                        }
                        course.update = Some(update);
                    }
                    Event::State(it) if is_place => {
                        course.update = Some(it.step.saturating_add(counted_before));
                    }
                    _ if is_place => course.update = Some(done),
                    _ => continue,
                }
                if course.update == Some(done) {
                    course.values.insert(done, latest.clone());
                }
            }
            if awaits {
                course.update = Some(done.saturating_add(1));
            }
        }
        Ok(course)
    }

    fn see(&mut self, update: u64, it: &Update, loss: Option<f64>, drawn: bool) -> Values {
        let optimizer = it.optimizer.unwrap_or(0);
        let rates = it.lr.iter().enumerate().map(|(group, lr)| (Quantity::Rate, group, lr.0));
        let values = loss.map(|loss| (Quantity::Loss, 0, loss)).into_iter().chain(rates);
        let values: Vec<_> = values.chain(it.grad_norm.map(|it| (Quantity::Norm, 0, it.0))).collect();
        for &(quantity, group, value) in values.iter().filter(|_| drawn) {
            self.curves.entry((quantity, optimizer, group)).or_default().see(update, value);
        }
        Values(values.into_iter().map(|(quantity, _, value)| (quantity, value)).collect())
    }

    /// The different curves of a quantity, as many as can be told apart, and how many there are of all.
    pub(super) fn of(&self, quantity: Quantity) -> (Vec<&Curve>, usize) {
        let mut curves: Vec<&Curve> = Vec::new();
        for (_, curve) in self.curves.iter().filter(|((it, ..), _)| *it == quantity) {
            if !curves.contains(&curve) {
                curves.push(curve);
            }
        }
        let all = curves.len();
        curves.truncate(CURVES_MOST);
        (curves, all)
    }

    /// The values after an update that was asked for, where there are any.
    pub(super) fn at(&self, update: u64, quantity: Quantity) -> Vec<f64> {
        let values = self.values.get(&update).into_iter().flat_map(|it| &it.0);
        values.filter(|(it, _)| *it == quantity).map(|(_, value)| *value).collect()
    }

    /// The first update and the last.
    pub(super) fn span(&self) -> Option<(u64, u64)> {
        let spans = self.curves.values().filter_map(Curve::span);
        spans.reduce(|(from, to), (first, last)| (from.min(first), to.max(last)))
    }
}

/// The losses since the last update.
#[derive(Default)]
struct Window {
    /// The sum and the weight of each loss, by name.
    losses: BTreeMap<String, (f64, f64)>,
    /// The sum of what a recorder saw backward() run on.
    backward: Option<f64>,
}

impl Window {
    fn add(&mut self, it: &MicroBatch) {
        for loss in &it.losses {
            let (sum, weight) = self.losses.entry(loss.name.clone()).or_default();
            *sum += loss.sum.0;
            *weight += loss.weight.0;
        }
        if let Some(Number(value)) = it.backward {
            *self.backward.get_or_insert(0.0) += value;
        }
    }

    /// The loss that the update is made from: what backward() ran on, or the sum of the mean losses. A loss that has no
    /// target in the window has no mean, and is no NaN.
    fn close(&mut self) -> Option<f64> {
        let Self { losses, backward } = std::mem::take(self);
        let means = losses.values().filter(|(_, weight)| *weight != 0.0).map(|(sum, weight)| sum / weight);
        backward.or_else(|| means.fold(None, |all, mean| Some(all.unwrap_or(0.0) + mean)))
    }
}

#[cfg(test)]
pub(super) mod tests;
