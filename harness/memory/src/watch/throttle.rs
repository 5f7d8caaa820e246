//! Keeps the watcher cheap: a slow measurement is repeated only as often as a small share of processor time allows.

use std::time::{Duration, Instant};

use rustix::time::{ClockId, clock_gettime};

/// Each measurement may use a thousandth of the time. With the samples themselves that is under 0.5 % of a core.
const SHARE: u32 = 1000;

/// The schedule of a slow measurement.
#[derive(Debug)]
pub struct Throttle {
    due: Instant,
    pause_least: Duration,
    pause_most: Duration,
}

impl Throttle {
    /// A measurement that is first due after `pause_least`. The pause between two is from `pause_least` to
    /// `pause_most`.
    pub fn new(pause_least: Duration, pause_most: Duration) -> Self {
        Self { due: Instant::now() + pause_least, pause_least, pause_most }
    }

    /// Measures if it is due. The pause until the next time grows with the processor time that this one took.
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

/// Processor time of this thread. Wall time would count what other programs do on a busy machine.
fn processor_time() -> Duration {
    clock_gettime(ClockId::ThreadCPUTime).try_into().unwrap_or_default()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_dear_is_put_off() {
        let hour = Duration::from_secs(3600);
        let mut slow = Throttle::new(Duration::ZERO, hour);
        let work = || {
            let begun = processor_time();
            while processor_time() - begun < Duration::from_millis(20) {}
        };
        assert_eq!((slow.when_due(work), slow.when_due(work)), (Some(()), None));
        assert_eq!(Throttle::new(hour, hour).when_due(work), None, "it is not due at once");
        let mut due = Throttle::new(Duration::ZERO, Duration::ZERO);
        assert_eq!((due.when_due(work), due.when_due(work)), (Some(()), Some(())), "however slow");
    }
}
