//! The memory breaker: what a run does when it takes more than it may.
//!
//! At an update whose window peaked above the limit, caches are released first. If that was not enough, micro-batches
//! are halved and the accumulation doubled, so that every update has the samples that it would have had; down to one
//! sample, and then the run stops with a checkpoint. It never waits for memory to come back: nothing else gives it.

use traintrue_protocol::plan::MemoryLimit;

use crate::data::Batch;

/// How the samples of an update are cut into micro-batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// Samples a micro-batch.
    pub batch: u64,
    /// Micro-batches a window.
    pub accumulation: u64,
}

/// The heap, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Peaks {
    /// The highest of the window that just closed.
    pub window_bytes: u64,
    /// The highest since the run began.
    pub run_bytes: u64,
    /// What is live between two windows.
    pub held_bytes: u64,
}

impl Peaks {
    /// What a window of twice the micro-batch would peak at: all that a window takes on top is its own.
    fn at_twice_the_batch(self) -> u64 {
        let taken = self.window_bytes.saturating_sub(self.held_bytes);
        self.held_bytes.saturating_add(taken.saturating_mul(2))
    }
}

/// The parts of the breaker.
#[derive(Clone, Copy)]
pub struct BreakerParts {
    /// The bytes that the limit is held against.
    pub reading: fn(Peaks) -> u64,
    /// The next smaller grouping.
    pub halve: fn(Grouping) -> Grouping,
    /// Frees the batches that are kept for the next evaluation.
    pub release: fn(&mut Vec<Batch>),
    /// Updates done, after the grouping has changed.
    pub step: fn(u64) -> u64,
}

impl Default for BreakerParts {
    fn default() -> Self {
        Self {
            reading: |peaks| peaks.window_bytes,
            halve,
            release: |kept| *kept = Vec::new(),
            step: |step| step,
        }
    }
}

/// Half as many samples, twice as often. What has no half goes one by one: an update keeps its samples.
fn halve(Grouping { batch, accumulation }: Grouping) -> Grouping {
    let parts = if batch.is_multiple_of(2) { 2 } else { batch };
    Grouping { batch: batch / parts, accumulation: accumulation * parts }
}

/// What there is to do after an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    GoOn,
    /// Free what can be computed again.
    ReleaseCaches,
    /// Halve the micro-batch and double the accumulation.
    Halve,
    /// Take up the grouping before the last halving.
    Recover,
    /// Nothing is left to make smaller: save and stop.
    Stop,
}

/// Where the breaker stands.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    /// Whether caches were released: they stay so.
    released: bool,
    /// The groupings that were left, the plan's own first.
    left: Vec<Grouping>,
    /// Updates in a row that would have fitted at twice the micro-batch.
    roomy: u64,
}

impl Breaker {
    /// What an update asks for whose window read `bytes` at these peaks.
    pub fn judge(&mut self, bytes: u64, peaks: Peaks, limit: &MemoryLimit, now: Grouping) -> Act {
        self.roomy = if peaks.at_twice_the_batch() <= limit.bytes { self.roomy + 1 } else { 0 };
        let settled = limit.recover_after.is_some_and(|updates| self.roomy >= updates);
        match (bytes > limit.bytes, self.released, now.batch) {
            (true, false, _) => Act::ReleaseCaches,
            (true, true, batch) if batch > 1 => Act::Halve,
            (true, true, _) => Act::Stop,
            (false, ..) if settled && !self.left.is_empty() => Act::Recover,
            (false, ..) => Act::GoOn,
        }
    }

    /// Caches were released.
    pub fn released(&mut self) {
        self.released = true;
    }

    /// Whether caches may be kept.
    pub fn keeps_caches(&self) -> bool {
        !self.released
    }

    /// The grouping was halved.
    pub fn halved(&mut self, from: Grouping) {
        self.left.push(from);
        self.roomy = 0;
    }

    /// The grouping to go back to.
    pub fn recovered(&mut self) -> Option<Grouping> {
        self.roomy = 0;
        self.left.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: MemoryLimit = MemoryLimit { bytes: 100, recover_after: Some(2) };

    /// A window that peaked so high, of which 20 B are always held.
    fn at(window_bytes: u64) -> Peaks {
        Peaks { window_bytes, run_bytes: window_bytes, held_bytes: 20 }
    }

    #[test]
    fn every_smaller_grouping_keeps_the_samples_of_an_update() {
        let mut at = Grouping { batch: 12, accumulation: 5 };
        let mut batches = Vec::new();
        while at.batch > 1 {
            at = halve(at);
            assert_eq!(at.batch * at.accumulation, 60);
            batches.push(at.batch);
        }
        assert_eq!(batches, [6, 3, 1]);
    }

    #[test]
    fn caches_go_first_then_the_batch_and_at_one_sample_the_run() {
        let (mut breaker, now) = (Breaker::default(), Grouping { batch: 2, accumulation: 1 });
        assert_eq!(breaker.judge(100, at(100), &LIMIT, now), Act::GoOn);
        assert_eq!(breaker.judge(101, at(101), &LIMIT, now), Act::ReleaseCaches);
        breaker.released();
        assert_eq!(breaker.judge(101, at(101), &LIMIT, now), Act::Halve);
        assert_eq!(breaker.judge(101, at(101), &LIMIT, halve(now)), Act::Stop);
    }

    #[test]
    fn a_batch_is_taken_up_again_when_twice_of_it_has_fitted_for_long_enough() {
        let (mut breaker, now) = (Breaker::default(), Grouping { batch: 4, accumulation: 1 });
        breaker.halved(now);
        let acts = [60, 61, 60, 60].map(|bytes| breaker.judge(bytes, at(bytes), &LIMIT, halve(now)));
        assert_eq!(acts, [Act::GoOn, Act::GoOn, Act::GoOn, Act::Recover]);
        assert_eq!((breaker.recovered(), breaker.recovered()), (Some(now), None));
    }
}
