//! Finds the update of the uninterrupted run that a resumed run goes on from, by the digests of its parameters.

use std::collections::BTreeMap;

use traintrue_protocol::trace::Line;
use traintrue_protocol::trace::event::{MicroBatch, State, TensorState};
use traintrue_protocol::vocabulary::Component;

use super::data::{self, known, micro_batch};
use super::history::{History, state};
use crate::finding::Difference;
use crate::invariants::shared::names::listed;

/// Where a resumed run goes on.
pub(super) enum Place<'a> {
    /// At a state of the uninterrupted run.
    At(Aligned<'a>),
    /// At none of its states.
    Nowhere(Difference),
}

/// The state of the uninterrupted run that has the parameters of the resumed run's start.
pub(super) struct Aligned<'a> {
    /// Updates done.
    pub step: u64,
    /// Micro-batches and updates of the uninterrupted run before it.
    pub position: usize,
    state: &'a State,
}

/// Compares the state at the start of a resumed run with every state of the uninterrupted run.
pub(super) fn align<'a>(start: &Line, whole: &'a History, first: Option<&MicroBatch>) -> Place<'a> {
    let Some(loaded) = state(start) else {
        return Place::Nowhere(nothing_to_compare());
    };
    let states =
        || whole.states.iter().filter_map(|(position, line)| state(line).map(|state| (*position, state)));
    // A state that the script saved with other weights swapped in is not the one that training went on with.
    let went_on = |at: usize, held: &State| {
        let last = states().rfind(|(position, _)| *position == at);
        last.is_none_or(|(_, last)| differing(held, last, digest).is_empty())
    };
    let equal =
        states().filter(|(at, state)| differing(loaded, state, digest).is_empty() && went_on(*at, state));
    // Parameters do not change where the rate is 0, or where a GradScaler skips an update: of several states the one with
    // the same moments and buffers, which the resumed run's first samples follow; or else of the last update. Of one
    // update's the first: what the resumed run does not repeat of the window is looked for later.
    let best = equal.max_by_key(|(position, state)| {
        let same = (differing(loaded, state, moments).is_empty(), state.buffers == loaded.buffers);
        let due = whole.steps.get(*position).and_then(|line| micro_batch(line));
        let follows = first.zip(due).is_some_and(|(first, due)| known(first) && data::is(first, due));
        // A script may save between the scaler's step and its update.
        (same, follows, state.step, state.scaler == loaded.scaler, std::cmp::Reverse(*position))
    });
    if let Some((position, state)) = best {
        return Place::At(Aligned { step: state.step, position, state });
    }
    if let Some((_, swapped)) = states().find(|(_, state)| differing(loaded, state, digest).is_empty()) {
        return Place::Nowhere(swapped_in(swapped));
    }
    let nearest = states().min_by_key(|(position, state)| {
        (differing(loaded, state, digest).len(), std::cmp::Reverse(*position))
    });
    Place::Nowhere(nearest.map_or_else(nothing_to_compare, |(_, nearest)| other_values(loaded, nearest)))
}

impl Aligned<'_> {
    /// The tensors that trained in the uninterrupted run at that update, and are frozen in the resumed one.
    pub fn frozen_now<'s>(&self, start: &'s Line) -> Vec<&'s str> {
        let trained = |name: &str| self.state.tensors.iter().any(|it| it.name == name && it.trainable);
        let frozen = |it: &&TensorState| !it.trainable && trained(&it.name);
        state(start)
            .map(|it| it.tensors.iter().filter(frozen).map(|it| it.name.as_str()).collect())
            .unwrap_or_default()
    }

    /// What else must come back: the optimizer's state of each parameter, and the buffers. `None` is a comparison
    /// that holds.
    pub fn restored(&self, start: &Line) -> Vec<Option<Difference>> {
        let Some(loaded) = state(start) else { return Vec::new() };
        vec![self.moments(loaded), self.buffers(loaded), self.scaler(loaded)]
    }

    fn moments(&self, loaded: &State) -> Option<Difference> {
        let names = differing(loaded, self.state, moments);
        let absent = loaded.tensors.iter().all(|it| it.moments.is_none());
        (!names.is_empty()).then(|| Difference {
            expected: format!("the optimizer's state after update {}, for every parameter", self.step),
            actual: format!("{} of {}", counted(&names, if absent { "none for" } else { "another for" }), loaded.tensors.len()),
            component: Component::Moments,
            cause: if absent {
                "the parameters were loaded and the optimizer's state was not: its moments begin anew".into()
            } else {
                "the optimizer's state of these parameters is not the one after that update: it is saved at another \
                 moment than the parameters, or loaded into another order of parameters"
                    .into()
            },
        })
    }

    fn scaler(&self, loaded: &State) -> Option<Difference> {
        let (due, found) = (self.state.scaler?, loaded.scaler?);
        (due != found).then(|| Difference {
            expected: format!("the loss scale {due}, as after update {}", self.step),
            actual: found.to_string(),
            component: Component::CheckpointSections,
            cause: "the loss scale did not come back: save the scaler's state_dict(), after its update(), and load it".into(),
        })
    }

    fn buffers(&self, loaded: &State) -> Option<Difference> {
        let differs = |name: &&String| self.state.buffers.get(*name) != loaded.buffers.get(*name);
        let names: Vec<&str> = self.state.buffers.keys().filter(differs).map(String::as_str).collect();
        (!names.is_empty()).then(|| Difference {
            expected: format!("the buffers of the model as after update {}", self.step),
            actual: format!("{} of {}", counted(&names, "other values in"), self.state.buffers.len()),
            component: Component::CheckpointSections,
            cause: "the parameters came back and these buffers did not: a batch norm's running statistics are buffers".into(),
        })
    }
}

/// Whether the same tensors train in two states: the digest of an update is over those that trained at the start.
pub(super) fn trains_alike(one: &Line, other: &Line) -> bool {
    let trained = |line: &Line| -> Vec<String> {
        let tensors =
            state(line).map(|it| it.tensors.iter().filter(|it| it.trainable).map(|it| it.name.clone()));
        tensors.map(Iterator::collect).unwrap_or_default()
    };
    trained(one) == trained(other)
}

/// The names of the tensors of a loaded state whose digest, or moments, are others than in a state of the whole run.
fn differing<'a>(loaded: &'a State, whole: &State, of: fn(&TensorState) -> Option<&str>) -> Vec<&'a str> {
    let known: BTreeMap<&str, Option<&str>> =
        whole.tensors.iter().map(|it| (it.name.as_str(), of(it))).collect();
    let differs = |it: &&TensorState| known.get(it.name.as_str()).copied().flatten() != of(it);
    loaded.tensors.iter().filter(differs).map(|it| it.name.as_str()).collect()
}

fn digest(it: &TensorState) -> Option<&str> {
    Some(&it.digest)
}

fn moments(it: &TensorState) -> Option<&str> {
    it.moments.as_deref()
}

fn swapped_in(saved: &State) -> Difference {
    Difference {
        expected: format!("the parameters that training went on with after update {}", saved.step),
        actual: "those that the script held while it saved, and then put away".into(),
        component: Component::Checkpoint,
        cause: "the checkpoint was written while other weights were swapped in, as averaged weights are for an evaluation: a \
                resume trains those"
            .into(),
    }
}

fn other_values(loaded: &State, nearest: &State) -> Difference {
    let names = differing(loaded, nearest, digest);
    let all = names.len() == loaded.tensors.len();
    Difference {
        expected: "the parameters of one update of the uninterrupted run".into(),
        actual: format!(
            "{} of {} that no update had; the nearest is update {}",
            counted(&names, "values in"),
            loaded.tensors.len(),
            nearest.step
        ),
        component: if all { Component::Checkpoint } else { Component::CheckpointSections },
        cause: if all {
            "every parameter came back with other values: the checkpoint holds other weights than training has (another \
             precision, averaged weights, the best ones), or was written while training went on"
                .into()
        } else {
            "these tensors came back with other values and the rest did not: they are missing in the checkpoint, or \
             their names did not match when it was loaded"
                .into()
        },
    }
}

fn nothing_to_compare() -> Difference {
    Difference {
        expected: "states with the digests of the parameters".into(),
        actual: "none".into(),
        component: Component::Protocol,
        cause: "the recordings have no states to compare: record them with `traintrue cut`".into(),
    }
}

fn counted(names: &[&str], what: &str) -> String {
    format!("{what} {}: {} tensors", listed(names.iter().copied()), names.len())
}
