//! What a trace says, without what two runs of one trainer may differ in: to tell a fault that changes nothing.

use std::path::Path;

use traintrue_protocol::trace::{Event, TraceReader};

/// A digest over every event but memory figures, and without the plan, paths and counts of file operations. A trace that
/// cannot be read to its end has the digest of what can be.
pub fn fingerprint(trace: &Path) -> String {
    let mut hasher = blake3::Hasher::new();
    let Ok(lines) = TraceReader::open(trace) else {
        return String::new();
    };
    for line in lines.map_while(Result::ok) {
        let event = match line.event {
            Event::Run(_) | Event::Memory(_) => continue,
            Event::Checkpoint(mut it) => {
                it.path.clear();
                it.operations = None;
                it.damaged.iter_mut().for_each(String::clear);
                Event::Checkpoint(it)
            }
            other => other,
        };
        // Hashing does not fail; an event that was read can be written.
        let _ = serde_json::to_writer(&mut hasher, &event);
    }
    hasher.finalize().to_hex().to_string()
}
