//! Decides when a command must be stopped, and how: SIGTERM first, SIGKILL if it does not end.

use std::time::{Duration, Instant};

use serde::Serialize;

use crate::bytes::Bytes;

/// A command that grows an eighth beyond the limit is killed without waiting for the grace period.
const BEYOND: u64 = 8;

/// The machine counts as out of memory if less than a 64th of its memory is available.
const LEFT_LEAST: u64 = 64;

/// Why a command was stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Reason {
    /// The process tree reached the limit.
    MaxMemory,
    /// The machine had almost no memory left before the tree reached the limit.
    MachineMemory,
}

/// The last signal that was needed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[allow(missing_docs, reason = "the names say it")]
pub enum Sent {
    #[serde(rename = "SIGTERM")]
    Term,
    #[serde(rename = "SIGKILL")]
    Kill,
}

/// Why a command was stopped, and by which signal.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Stopped {
    /// Why.
    pub reason: Reason,
    /// The lane that crossed its limit.
    pub lane: &'static str,
    /// The limit.
    pub limit_bytes: u64,
    /// The measured value of that lane.
    pub bytes: u64,
    /// The last step seen before that.
    pub step: Option<u64>,
    /// The last signal that was needed.
    pub signal: Sent,
}

/// The memory and the time that a command may use.
#[derive(Clone, Copy, Debug)]
pub struct Limit {
    /// Resident memory of the process tree, shared pages counted once.
    pub max: Bytes,
    /// How long it may take to end after it was asked to.
    pub grace: Duration,
    /// The machine's memory, if known.
    pub machine: Option<Bytes>,
}

impl Limit {
    /// Whether the command must be stopped now. `held_bytes` is what the tree holds, with shared pages counted once.
    pub fn crossed(&self, held_bytes: u64, available: Option<Bytes>, step: Option<u64>) -> Option<Stopped> {
        let stopped = |reason, lane, limit_bytes, bytes| {
            Some(Stopped { reason, lane, limit_bytes, bytes, step, signal: Sent::Term })
        };
        if held_bytes >= self.max.0 {
            return stopped(Reason::MaxMemory, "pss_bytes", self.max.0, held_bytes);
        }
        match (available, self.left_least()) {
            (Some(Bytes(left)), Some(least)) if left < least => {
                stopped(Reason::MachineMemory, "machine_available_bytes", least, left)
            }
            _ => None,
        }
    }

    /// Whether the command must be killed: it got SIGTERM at `asked` and has not ended in time, or keeps growing.
    pub fn overdue(&self, asked: Instant, held_bytes: u64, available: Option<Bytes>) -> bool {
        // Half of the threshold: the command may need some memory to save and end.
        let left = |least: u64| available.is_some_and(|left| left.0 < least / 2);
        asked.elapsed() >= self.grace
            || held_bytes >= self.max.0.saturating_add(self.max.0 / BEYOND)
            || self.left_least().is_some_and(left)
    }

    fn left_least(&self) -> Option<u64> {
        self.machine.map(|machine| machine.0 / LEFT_LEAST)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    const MIB: u64 = 1 << 20;

    fn limit(grace: Duration) -> Limit {
        Limit { max: Bytes(800 * MIB), grace, machine: Some(Bytes(6400 * MIB)) }
    }

    #[rstest]
    #[case(799, Some(100), None)]
    #[case(800, Some(100), Some((Reason::MaxMemory, 800, 800)))]
    #[case(800, None, Some((Reason::MaxMemory, 800, 800)))]
    #[case(10, Some(99), Some((Reason::MachineMemory, 100, 99)))]
    #[case(10, None, None)]
    fn it_ends_at_its_limit_or_before_the_machine_has_nothing_left(
        #[case] rss: u64,
        #[case] left: Option<u64>,
        #[case] expected: Option<(Reason, u64, u64)>,
    ) {
        let stopped = limit(Duration::ZERO).crossed(rss * MIB, left.map(|it| Bytes(it * MIB)), Some(3));
        let found = stopped.map(|it| (it.reason, it.limit_bytes / MIB, it.bytes / MIB));
        assert_eq!(found, expected);
    }

    #[rstest]
    #[case(3600, 899, 50, false)]
    #[case(3600, 900, 50, true)]
    #[case(3600, 10, 49, true)]
    #[case(0, 10, 5000, true)]
    fn it_is_killed_when_its_time_is_up_or_it_goes_on_growing(
        #[case] grace_s: u64,
        #[case] rss: u64,
        #[case] left: u64,
        #[case] killed: bool,
    ) {
        let limit = limit(Duration::from_secs(grace_s));
        assert_eq!(limit.overdue(Instant::now(), rss * MIB, Some(Bytes(left * MIB))), killed);
    }
}
