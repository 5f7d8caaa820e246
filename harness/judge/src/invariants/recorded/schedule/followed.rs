//! One scheduler over a run: how often it is stepped, and what the rate does at its end.

use traintrue_protocol::trace::Line;
use traintrue_protocol::trace::since::Scheduled;

use crate::invariants::recorded::seen::{Counted, Sightings};

/// Schedulers of torch that raise the rate from a low start, or hold a part of it back for a while. Their end is not the end
/// of training.
const WARM_UPS: [&str; 2] = ["LinearLR", "ConstantLR"];
/// Schedulers that begin below their peak, that combine others, or that are stepped with a place in training.
const OTHER_STARTS: [&str; 8] = [
    "LinearLR",
    "ConstantLR",
    "SequentialLR",
    "ChainedScheduler",
    "OneCycleLR",
    "CyclicLR",
    "CosineAnnealingWarmRestarts",
    "ReduceLROnPlateau",
];

/// What was seen of one scheduler.
pub(super) struct Followed {
    pub(super) name: String,
    pub(super) length: Option<u64>,
    pub(super) argument: Option<String>,
    warmup: u64,
    /// Its steps at the first update and at the last one.
    pub(super) first: u64,
    pub(super) last: u64,
    /// Steps between one update and the next.
    pub(super) per_update: Counted,
    /// Updates at a rate of 0 at the end of the schedule or after it.
    pub(super) zeros: Sightings,
    /// Updates after the end whose rate is above that of the update before.
    pub(super) rises: Sightings,
    /// Whether the rate has fallen at some update.
    fell: bool,
}

impl Followed {
    pub(super) fn new(it: &Scheduled) -> Self {
        Self {
            name: it.name.clone(),
            length: it.length.filter(|&length| length > 0),
            argument: it.argument.clone(),
            warmup: it.warmup.unwrap_or(0),
            first: it.steps,
            last: it.steps,
            per_update: Counted::default(),
            zeros: Sightings::default(),
            rises: Sightings::default(),
            fell: false,
        }
    }

    /// A later update, at this rate and after that of the update before.
    pub(super) fn update(&mut self, it: &Scheduled, rate: f64, before: f64, line: &Line) {
        self.per_update.add(it.steps.saturating_sub(self.last));
        self.last = it.steps;
        let Some(length) = self.length else { return };
        if it.steps >= length && rate == 0.0 {
            self.zeros.add(line);
        }
        self.fell |= rate < before;
        // A warm-up that is longer than the run only rises.
        if it.steps > length && rate > before && self.fell {
            self.rises.add(line);
        }
    }

    pub(super) fn is_warm_up(&self) -> bool {
        WARM_UPS.contains(&self.name.as_str())
    }

    pub(super) fn is_stepped_by_metrics(&self) -> bool {
        self.name == "ReduceLROnPlateau"
    }

    /// Whether its first value is the peak, so that a step before the first update skips it.
    pub(super) fn begins_at_the_peak(&self) -> bool {
        // A function of the step may count from 1 on purpose.
        self.warmup == 0 && self.name != "LambdaLR" && !OTHER_STARTS.contains(&self.name.as_str())
    }

    /// `CosineAnnealingLR (T_max 20)`.
    pub(super) fn words(&self) -> String {
        match (self.length, &self.argument) {
            (Some(length), Some(argument)) => format!("{} ({argument} {length})", self.name),
            (Some(length), None) => format!("{} ({length} steps)", self.name),
            _ => self.name.clone(),
        }
    }

    /// The argument that says how long it is.
    pub(super) fn argument(&self) -> &str {
        self.argument.as_deref().unwrap_or("the schedule's length")
    }
}
