//! The memory breaker: decides what a run does after an update whose window peaked above the plan's limit.
//!
//! The first time, caches are released. After that, each such update halves the micro-batch and doubles the accumulation,
//! so every update keeps its samples. At one sample per micro-batch the run stops with a checkpoint. The breaker never
//! waits for memory: no other process gives any back.

use traintrue_protocol::plan::MemoryLimit;

use crate::data::Batch;

/// How the samples of an update are cut into micro-batches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grouping {
    /// Samples per micro-batch.
    pub batch: u64,
    /// Micro-batches per window.
    pub accumulation: u64,
}

/// Readings of the heap at an update, in bytes.
#[derive(Clone, Copy, Debug)]
pub struct Peaks {
    /// The highest of the window that just closed.
    pub window_bytes: u64,
    /// The highest since the run began.
    pub run_bytes: u64,
    /// The live bytes between two windows.
    pub held_bytes: u64,
}

impl Peaks {
    /// The peak of a window with twice the micro-batch. Everything above `held_bytes` counts as growing with it: an upper
    /// bound.
    fn at_twice_the_batch(self) -> u64 {
        let taken = self.window_bytes.saturating_sub(self.held_bytes);
        self.held_bytes.saturating_add(taken.saturating_mul(2))
    }
}

/// The parts of the breaker.
#[derive(Clone, Copy)]
pub struct BreakerParts {
    /// The next smaller grouping.
    pub halve: fn(Grouping) -> Grouping,
    /// Frees the batches that are kept for the next evaluation.
    pub release: fn(&mut Vec<Batch>),
}

impl Default for BreakerParts {
    fn default() -> Self {
        // A new vector: `clear` would keep the allocation.
        Self { halve, release: |kept| *kept = Vec::new() }
    }
}

/// Half the samples per micro-batch, twice the micro-batches. An odd number goes to 1, so that an update keeps its samples.
fn halve(Grouping { batch, accumulation }: Grouping) -> Grouping {
    let parts = if batch.is_multiple_of(2) { 2 } else { batch };
    Grouping { batch: batch / parts, accumulation: accumulation * parts }
}

/// What the loop must do after an update.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Act {
    /// Nothing.
    GoOn,
    /// Free what can be recomputed.
    ReleaseCaches,
    /// Halve the micro-batch and double the accumulation.
    Halve,
    /// Return to the grouping before the last halving.
    Recover,
    /// Save and stop: one sample per micro-batch is still too much.
    Stop,
}

/// The breaker's state over a run.
#[derive(Clone, Debug, Default)]
pub struct Breaker {
    /// Whether caches were released. They are not kept again.
    released: bool,
    /// The groupings before each halving, the plan's own first.
    left: Vec<Grouping>,
    /// Consecutive updates that would have fitted with twice the micro-batch.
    roomy: u64,
}

impl Breaker {
    /// What to do after an update at these peaks; `bytes` is the reading that the limit applies to.
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

    /// Records that caches were released.
    pub fn released(&mut self) {
        self.released = true;
    }

    /// Whether caches may be kept.
    pub fn keeps_caches(&self) -> bool {
        !self.released
    }

    /// Records that `from` was halved.
    pub fn halved(&mut self, from: Grouping) {
        self.left.push(from);
        self.roomy = 0;
    }

    /// The grouping to return to.
    pub fn recovered(&mut self) -> Option<Grouping> {
        self.roomy = 0;
        self.left.pop()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LIMIT: MemoryLimit = MemoryLimit { bytes: 100, recover_after: Some(2) };

    /// A window with this peak, of which 20 B are held between windows.
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
