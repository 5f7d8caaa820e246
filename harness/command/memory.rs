//! Measures the memory of this process, for the reference trainer's traces.

use std::collections::BTreeMap;

use traintrue_reference::Meter;

use crate::HEAP;

/// The counting allocator, and what the system says.
pub struct Heap;

impl Meter for Heap {
    fn lanes(&self) -> BTreeMap<String, Option<u64>> {
        BTreeMap::from([
            ("heap_bytes".to_owned(), Some(HEAP.current_usage() as u64)),
            ("heap_peak_bytes".to_owned(), Some(HEAP.peak_usage() as u64)),
        ])
    }

    fn reset_peak(&self) {
        HEAP.reset_peak_usage();
    }
}
