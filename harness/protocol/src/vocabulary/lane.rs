//! What can be measured of a process at a boundary.

use super::words;

words! {
    /// A memory lane: one figure per boundary. A trainer may write lanes of its own beside these.
    Lane, "lane" {
        HeapBytes = "heap_bytes": "Live bytes of the program's own heap, counted exactly by its allocator.",
        HeapBlocks = "heap_blocks": "Live allocations of that heap.",
        HeapPeakBytes = "heap_peak_bytes": "The most bytes that the heap held since the last sample.",
        RssBytes = "rss_bytes": "The resident size of the process, as the system counts it, in pages.",
        Handles = "handles": "Open file descriptors.",
        Threads = "threads": "Threads of the process.",
        DeviceInUseBytes = "device_in_use_bytes": "Bytes that the device's allocator has handed out and not got back.",
        DeviceReservedBytes = "device_reserved_bytes": "Bytes that the device's allocator holds, handed out or kept for reuse.",
        DeviceProcessBytes = "device_process_bytes": "Bytes that the driver counts for this process on its devices.",
        TrackedTensors = "tracked_tensors": "Tensors that Python objects keep alive.",
        TrackedBytes = "tracked_bytes": "Bytes of those tensors; shared storage counts once.",
    }
}
