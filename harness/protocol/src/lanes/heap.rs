//! Live bytes and blocks of this process's heap, counted exactly by its global allocator.
//!
//! This is the one file with unsafe code: an allocator cannot be written without. It hands every call on to the system's
//! allocator and keeps three counters, relaxed: a figure read while other threads allocate is off by what they are just
//! doing, and on one thread it is exact.

#![expect(
    unsafe_code,
    reason = "implementing GlobalAlloc is unsafe; every call goes to the system's allocator as it came"
)]

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};

static BYTES: AtomicU64 = AtomicU64::new(0);
static BLOCKS: AtomicU64 = AtomicU64::new(0);
static PEAK_BYTES: AtomicU64 = AtomicU64::new(0);

/// The system's allocator, counting; [`count_heap!`](crate::count_heap) installs it.
pub struct Counting;

/// Installs the counting allocator in a program or a test binary: once, at the top level of a file.
#[macro_export]
macro_rules! count_heap {
    () => {
        #[global_allocator]
        static HEAP: $crate::lanes::heap::Counting = $crate::lanes::heap::Counting;
    };
}

/// What the heap holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Heap {
    /// Live bytes, as they were asked for.
    pub bytes: u64,
    /// Live allocations.
    pub blocks: u64,
    /// The most live bytes since the process began or [`begin_peak`] was called.
    pub peak_bytes: u64,
}

/// What the heap holds now; nothing where the counting allocator is not installed.
pub fn now() -> Option<Heap> {
    let peak_bytes = PEAK_BYTES.load(Relaxed);
    // A program has allocated before its first line is run.
    (peak_bytes > 0).then(|| Heap { bytes: BYTES.load(Relaxed), blocks: BLOCKS.load(Relaxed), peak_bytes })
}

/// Begins a new peak at what is live now.
pub fn begin_peak() {
    PEAK_BYTES.store(BYTES.load(Relaxed), Relaxed);
}

fn grown(bytes: usize) {
    let live = BYTES.fetch_add(bytes as u64, Relaxed) + bytes as u64;
    PEAK_BYTES.fetch_max(live, Relaxed);
}

fn shrunk(bytes: usize) {
    BYTES.fetch_sub(bytes as u64, Relaxed);
}

// SAFETY: each call is the system allocator's own, with the arguments and the result unchanged.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are handed on.
        let block = unsafe { System.alloc(layout) };
        if !block.is_null() {
            BLOCKS.fetch_add(1, Relaxed);
            grown(layout.size());
        }
        block
    }

    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promises are handed on. The system's own keeps untouched pages untouched.
        let block = unsafe { System.alloc_zeroed(layout) };
        if !block.is_null() {
            BLOCKS.fetch_add(1, Relaxed);
            grown(layout.size());
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        BLOCKS.fetch_sub(1, Relaxed);
        shrunk(layout.size());
        // SAFETY: the caller's promises are handed on.
        unsafe { System.dealloc(block, layout) }
    }

    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        // SAFETY: the caller's promises are handed on.
        let moved = unsafe { System.realloc(block, layout, size) };
        if !moved.is_null() {
            grown(size);
            shrunk(layout.size());
        }
        moved
    }
}
