//! What the rules over recorded loops share: optimizers in words, what most counts are, and where something was first seen.

use std::collections::BTreeMap;

use traintrue_protocol::trace::event::{EndReason, Update};
use traintrue_protocol::trace::since::Since;
use traintrue_protocol::trace::{Event, Line};

use crate::rule::Opening;

/// Fewer counts than this show no habit.
const LEAST: u64 = 3;

/// Optimizers whose gradients are used, or replaced, outside of their step. Sharpness-aware ones climb with a first gradient
/// and clear it; those for differential privacy and for sharded state keep the sum in a buffer of their own.
const OWN_GRADIENTS: [&str; 5] = ["SAM", "DPOptimizer", "DeepSpeed", "FP16_", "ZeroRedundancy"];

/// The classes of a run's optimizers, by number.
pub(super) struct Optimizers(Vec<String>);

impl Optimizers {
    pub(super) fn of(opening: &Opening) -> Self {
        Self(opening.recorded.map(|it| it.optimizers.clone()).unwrap_or_default())
    }

    /// One that holds an update's gradients otherwise than in `grad`, from its backward to its step.
    pub(super) fn with_own_gradients(&self) -> Option<&str> {
        let own = |class: &&String| OWN_GRADIENTS.iter().any(|word| class.contains(word));
        self.0.iter().find(own).map(String::as_str)
    }

    /// Whether the class of an optimizer has this word in its name.
    pub(super) fn is(&self, number: u64, word: &str) -> bool {
        self.class(number).is_some_and(|class| class.contains(word))
    }

    /// `optimizer 1 (AdamW)`.
    pub(super) fn named(&self, number: u64) -> String {
        match self.class(number) {
            Some(class) => format!("optimizer {number} ({class})"),
            None => format!("optimizer {number}"),
        }
    }

    /// ` of optimizer 1 (AdamW)`, or nothing where there is only one.
    pub(super) fn suffix(&self, number: u64) -> String {
        let is_only = self.0.len() < 2 && number == 0;
        if is_only { String::new() } else { format!(" of {}", self.named(number)) }
    }

    fn class(&self, number: u64) -> Option<&String> {
        self.0.get(usize::try_from(number).ok()?)
    }
}

/// The number of the optimizer that made an update.
pub(super) fn number(it: &Update) -> u64 {
    it.optimizer.unwrap_or(0)
}

/// Whether all gradients of an update's window were cleared before it used them.
pub(super) fn all_cleared(since: &Since) -> bool {
    since.micro_batches > 0 && since.unused >= since.micro_batches
}

/// Whether the script came to its end by itself.
pub(super) fn is_done(last: &Line) -> bool {
    matches!(&last.event, Event::End(end) if end.reason == EndReason::Done)
}

/// How often each count came.
#[derive(Default)]
pub(super) struct Counted(BTreeMap<u64, u64>);

impl Counted {
    pub(super) fn add(&mut self, count: u64) {
        *self.0.entry(count).or_default() += 1;
    }

    pub(super) fn all(&self) -> u64 {
        self.0.values().sum()
    }

    pub(super) fn with(&self, other: &Self) -> Self {
        let mut both = self.0.clone();
        other.0.iter().for_each(|(&count, &times)| *both.entry(count).or_default() += times);
        Self(both)
    }

    /// All but so many times one count.
    pub(super) fn without(&self, count: u64, times: u64) -> Self {
        let mut rest = self.0.clone();
        rest.entry(count).and_modify(|all| *all = all.saturating_sub(times));
        Self(rest)
    }

    /// What three quarters of at least three counts are.
    pub(super) fn usual(&self) -> Option<u64> {
        let (&count, &times) = self.0.iter().max_by_key(|(_, times)| **times)?;
        (self.all() >= LEAST && most(times, self.all())).then_some(count)
    }

    /// The smallest and the largest.
    pub(super) fn range(&self) -> Option<(u64, u64)> {
        self.0.keys().next().copied().zip(self.0.keys().next_back().copied())
    }
}

/// Whether `part` is at least three quarters of `all`.
pub(super) fn most(part: u64, all: u64) -> bool {
    part.saturating_mul(4) >= all.saturating_mul(3)
}

/// How often something was seen, and the line where it was first.
#[derive(Default)]
pub(super) struct Sightings {
    pub(super) times: u64,
    pub(super) first: Option<Line>,
}

impl Sightings {
    pub(super) fn add(&mut self, line: &Line) {
        self.times += 1;
        self.first.get_or_insert_with(|| line.clone());
    }

    /// The line where it was first, if it was seen at least this often.
    pub(super) fn at_least(&self, times: u64) -> Option<&Line> {
        self.first.as_ref().filter(|_| self.times >= times)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&[4, 4, 4, 1], Some(4))]
    #[case(&[4, 4, 1], None)]
    #[case(&[4, 4], None)]
    fn a_habit_is_three_quarters_of_at_least_three(#[case] counts: &[u64], #[case] usual: Option<u64>) {
        let mut counted = Counted::default();
        counts.iter().for_each(|&count| counted.add(count));
        assert_eq!(counted.usual(), usual);
    }
}
