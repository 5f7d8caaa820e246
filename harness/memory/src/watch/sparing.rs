//! Keeps the watcher from being felt: costly things are done only as often as a small share of the time allows.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// A thousandth of the time for each of them; with the samples themselves, under 0.5 % of a core.
const SHARE: u32 = 1000;

/// Something costly that is done again and again.
#[derive(Debug)]
pub struct Sparing {
    due: Instant,
    pause_least: Duration,
    pause_most: Duration,
}

impl Sparing {
    /// Something that is due after `pause_least` and again after each; however costly, it is done once in `pause_most`.
    pub fn new(pause_least: Duration, pause_most: Duration) -> Self {
        Self { due: Instant::now() + pause_least, pause_least, pause_most }
    }

    /// Does it if it is due, and puts the next time off by the processor time that it took.
    pub fn when_due<T>(&mut self, act: impl FnOnce() -> T) -> Option<T> {
        let now = Instant::now();
        (now >= self.due).then(|| {
            let begun = processor_time();
            let done = act();
            let took = processor_time().saturating_sub(begun);
            self.due = now + took.saturating_mul(SHARE).clamp(self.pause_least, self.pause_most);
            done
        })
    }
}

/// Of this thread: on a machine that is busy with other things, time alone says little.
fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dear_is_put_off() {
        let hour = Duration::from_secs(3600);
        let mut dear = Sparing::new(Duration::ZERO, hour);
        let work = || {
            let begun = processor_time();
            while processor_time() - begun < Duration::from_millis(20) {}
        };
        assert_eq!((dear.when_due(work), dear.when_due(work)), (Some(()), None));
        assert_eq!(Sparing::new(hour, hour).when_due(work), None, "it is not due at once");
        let mut due = Sparing::new(Duration::ZERO, Duration::ZERO);
        assert_eq!((due.when_due(work), due.when_due(work)), (Some(()), Some(())), "however dear");
    }
}
