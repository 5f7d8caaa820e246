//! Memory checks for unit tests, one line each, on the counted heap of this process.
//!
//! ```
//! traintrue_memory::count_heap!();
//!
//! # fn main() {
//! use traintrue_memory::guard;
//!
//! guard::returns_to_baseline(|| vec![0_u8; 4096].len()).unwrap();
//! guard::flat_over(100, |step| vec![step; 100].len()).unwrap();
//! {
//!     let _evaluation = guard::scope("evaluation");
//!     drop(vec![0_u8; 4096]);
//! }
//! # }
//! ```
//!
//! The heap is counted for the whole process, so tests that run in parallel are counted too. Use a test binary with one
//! test, one test thread (`--test-threads 1`), or one process per test (cargo-nextest).

use std::thread;

use traintrue_protocol::lanes::heap::{self, Heap};
use traintrue_protocol::lanes::process;
use traintrue_protocol::vocabulary::Lane;

use super::bytes::Bytes;

/// Memory that was not freed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum Growth {
    #[error(
        "the heap is not counted: put `traintrue_memory::count_heap!();` at the top of the program or of the test file"
    )]
    NotCounted,
    #[error("{steps} steps are too few to tell growth from warm-up; expected at least {STEPS_LEAST}")]
    TooFew { steps: u64 },
    #[error("{what} keeps {} ({bytes} B) in {blocks} more blocks: the heap holds them, so the program's own code still references them", Bytes(*bytes))]
    Held { what: String, bytes: u64, blocks: i64 },
    #[error("{what} grows the process by {} and the heap not: the growth is in a native buffer outside the heap", Bytes(*bytes))]
    Native { what: String, bytes: u64 },
}

/// With fewer steps, every step counts as warm-up.
const STEPS_LEAST: u64 = 8;

/// A process may grow by this much without a leak: thread stacks, pages that the allocator keeps.
const NATIVE_SLACK_BYTES: u64 = 4 << 20;

/// Checks that `work` frees what it allocates. It is called twice, and the second call must leave the heap as it was,
/// to the byte; the first is warm-up. Fails with the number of bytes and the likely cause.
pub fn returns_to_baseline<T>(mut work: impl FnMut() -> T) -> Result<(), Growth> {
    drop(work());
    let before = Sample::take()?;
    drop(work());
    before.compare("a call", &Sample::take()?)
}

/// Checks that memory is flat over `steps` calls of `step`: the low-water mark of the last quarter is not above that of
/// the quarter before. Memory that is freed within a quarter is not growth. Fails with the number of bytes per quarter.
pub fn flat_over<T>(steps: u64, mut step: impl FnMut(u64) -> T) -> Result<(), Growth> {
    if steps < STEPS_LEAST {
        return Err(Growth::TooFew { steps });
    }
    let quarter = steps / 4;
    let mut lowest: [Option<Sample>; 2] = [None, None];
    for number in 0..steps {
        drop(step(number));
        let left = steps - 1 - number;
        // Only the last half is sampled: the first half is warm-up.
        if left < 2 * quarter {
            let mark = &mut lowest[usize::from(left < quarter)];
            let sample = Sample::take()?;
            *mark = Some(mark.map_or(sample, |lowest| lowest.min(sample)));
        }
    }
    match lowest {
        [Some(earlier), Some(later)] => earlier.compare(&format!("each {quarter} steps"), &later),
        _ => Err(Growth::TooFew { steps }),
    }
}

/// Samples memory here and when the guard is dropped. The drop panics if more is held then, with the likely cause.
#[must_use = "a guard that is not bound to a variable is dropped at once and compares nothing"]
pub fn scope(name: &str) -> Scope {
    Scope { name: name.to_owned(), before: Some(Sample::take()) }
}

/// A part of a program that must free its memory; see [`scope`].
#[derive(Debug)]
pub struct Scope {
    name: String,
    /// None after the scope was left, so that the drop does not compare again.
    before: Option<Result<Sample, Growth>>,
}

impl Scope {
    /// Ends the scope. Fails with the number of bytes and the likely cause.
    pub fn leave(mut self) -> Result<(), Growth> {
        self.judge()
    }

    fn judge(&mut self) -> Result<(), Growth> {
        self.before.take().map_or(Ok(()), |before| before?.compare(&self.name, &Sample::take()?))
    }
}

impl Drop for Scope {
    fn drop(&mut self) {
        let judged = self.judge();
        if let Err(growth) = judged
            && !thread::panicking()
        {
            panic!("{growth}");
        }
    }
}

/// The heap and the process at one moment.
#[derive(Clone, Copy, Debug)]
struct Sample {
    heap: Heap,
    rss_bytes: Option<u64>,
}

impl Sample {
    fn take() -> Result<Self, Growth> {
        let heap = heap::now().ok_or(Growth::NotCounted)?;
        Ok(Self { heap, rss_bytes: process::own().remove(Lane::RssBytes.name()).flatten() })
    }

    /// The lower of two samples, lane by lane.
    fn min(self, other: Self) -> Self {
        let heap = if other.heap.bytes < self.heap.bytes { other.heap } else { self.heap };
        let rss_bytes = self.rss_bytes.zip(other.rss_bytes).map(|(one, other)| one.min(other));
        Self { heap, rss_bytes }
    }

    fn compare(&self, what: &str, later: &Self) -> Result<(), Growth> {
        let what = what.to_owned();
        let bytes = later.heap.bytes.saturating_sub(self.heap.bytes);
        if bytes > 0 {
            let blocks = later.heap.blocks as i64 - self.heap.blocks as i64;
            return Err(Growth::Held { what, bytes, blocks });
        }
        // Only if the heap is flat: heap growth makes the process grow too.
        let native =
            self.rss_bytes.zip(later.rss_bytes).map_or(0, |(before, after)| after.saturating_sub(before));
        if native > NATIVE_SLACK_BYTES { Err(Growth::Native { what, bytes: native }) } else { Ok(()) }
    }
}
