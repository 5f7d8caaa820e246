//! What can be measured of this process at a boundary: one figure a lane.

use std::collections::BTreeMap;

use super::bytes::BytesPerStep;
use super::{heap, process};

/// What a lane of a whole process may grow by beside the lane beneath it: two pages of 2 MiB over 1,000 updates, which is as
/// fine as a resident size can be read.
pub const PROCESS_LIMIT: BytesPerStep = BytesPerStep(4096.0);

/// The lanes of whole processes, each with the lane beneath, whose growth explains its own.
pub const OF_THE_PROCESS: [(&str, &str); 2] =
    [("rss_bytes", "heap_bytes"), ("device_process_bytes", "device_reserved_bytes")];

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
