//! When a state was taken.

use super::words;

words! {
    /// When the state of training was written into the trace.
    Moment, "moment" {
        Start = "start": "Before the first micro-batch of a run that starts afresh.",
        Loaded = "loaded": "After a checkpoint was loaded, before the first micro-batch that follows.",
        Update = "update": "After an optimizer step.",
        End = "end": "After the last micro-batch of the process, whether the run is finished or stopped.",
    }
}
