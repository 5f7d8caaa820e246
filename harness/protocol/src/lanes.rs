//! What can be measured of this process at a boundary: one figure a lane.

use std::collections::BTreeMap;

pub mod heap;
#[cfg(feature = "nvidia")]
pub mod nvidia;
pub mod process;

/// Figures by lane, in bytes where the name ends so; a lane that cannot be read here is not there.
pub type Lanes = BTreeMap<String, Option<u64>>;

/// The lanes of this process: its heap, where the counting allocator is installed, and what the system says.
pub fn of_this_process() -> Lanes {
    let mut lanes = process::own();
    if let Some(heap) = heap::now() {
        let figures =
            [("heap_bytes", heap.bytes), ("heap_blocks", heap.blocks), ("heap_peak_bytes", heap.peak_bytes)];
        lanes.extend(figures.map(|(lane, figure)| (lane.to_owned(), Some(figure))));
    }
    lanes
}
