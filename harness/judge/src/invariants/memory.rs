//! What a run holds in memory, and what it gives back.

pub mod breaker;
pub mod estimate;
pub mod heap;
pub mod peak;
pub mod process;
pub mod unload;

#[cfg(test)]
use traintrue_protocol::{trace::Event, vocabulary::Lane};

/// The same run on a device that holds `held(step)` bytes.
#[cfg(test)]
fn beside_a_device(mut events: Vec<Event>, held: fn(u64) -> u64) -> Vec<Event> {
    for event in &mut events {
        if let Event::Memory(it) = event {
            let lane = Lane::DeviceInUseBytes;
            it.lanes.insert(lane.name().to_owned(), Some(held(it.step)));
        }
    }
    events
}
