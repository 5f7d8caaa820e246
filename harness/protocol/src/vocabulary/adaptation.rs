//! What a trainer changes by itself while it trains.

use super::words;

words! {
    /// A setting that a trainer changes when memory runs short.
    Adaptation, "adaptation" {
        Batch = "batch": "Samples per micro-batch. The accumulation changes with it, so that an update keeps its samples.",
        Device = "device": "The device that the model is computed on.",
        Cache = "cache": "Memory that an allocator keeps for reuse; `to` is what remains of it.",
    }
}
