//! The verdict on one lane: its slope, its peak, and its bytes from epoch to epoch, each against its limit.

use serde::Serialize;
use traintrue_protocol::vocabulary::Lane;

use super::{Baseline, Held, Limit};
use crate::attribution::{DEVICE_ALLOCATIONS, LaneSlope, attribute};
use crate::bytes::{Bytes, BytesPerStep};
use crate::exact::exact;
use crate::series::{Ran, Recording, Series};
use crate::slope::{Slope, SlopeVerdict, judge};

/// Lanes from exact counters, which can be compared to the byte.
const EXACT: [Lane; 5] =
    [Lane::HeapBytes, Lane::HeapBlocks, Lane::DeviceInUseBytes, Lane::TrackedBytes, Lane::TrackedTensors];
/// The last words of lanes that do not count bytes.
const COUNTS: [&str; 5] = ["blocks", "allocations", "tensors", "handles", "threads"];
/// A count grows if it gains one per hundred steps.
const COUNT_LIMIT: BytesPerStep = BytesPerStep(0.01);

/// Whether a lane is exact.
pub fn is_exact(lane: &str) -> bool {
    lane == DEVICE_ALLOCATIONS || EXACT.iter().any(|exact| exact.name() == lane)
}

/// What a lane counts: `bytes`, unless its last word is another.
pub fn unit(lane: &str) -> &'static str {
    let last = lane.rsplit('_').next().unwrap_or(lane);
    COUNTS.iter().find(|unit| **unit == last).copied().unwrap_or("bytes")
}

/// The verdict on one lane of one file. Slopes are in the lane's unit per step.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// The file, as it was named.
    pub file: String,
    /// The lane.
    pub lane: String,
    /// What is counted: `bytes`, or another unit.
    pub unit: &'static str,
    /// The verdict.
    pub verdict: SlopeVerdict,
    /// The growth that persists, in units per step.
    pub slope_per_step: f64,
    /// The lower end of its interval.
    pub low: Option<f64>,
    /// The upper end of its interval.
    pub high: Option<f64>,
    /// The limit. None if the lane is only compared from epoch to epoch, or has no limit.
    pub limit_per_step: Option<f64>,
    /// The steps from the first sample to the last.
    pub steps: u64,
    /// About how many more steps a verdict needs, if there is none yet.
    pub further_steps: Option<u64>,
    /// The step at which the growth begins.
    pub from_step: Option<f64>,
    /// The steps until the capacity is full at this slope. None without a capacity or without growth.
    pub steps_to_exhaustion: Option<u64>,
    /// The most that was held.
    pub peak: u64,
    /// The limit on the peak.
    pub limit_peak: Option<u64>,
    /// The slope and the peak that were accepted last.
    pub baseline: Option<Baseline>,
    /// If the lane grows: which other lanes grew, and the likely cause.
    pub attribution: Option<String>,
    /// Why this verdict.
    pub reason: String,
    /// Which run it was, where the file is a trace.
    #[serde(skip)]
    pub run: Option<Ran>,
}

/// Judges the lanes of one recording. Lanes that do not count bytes are judged only if `exact` compares them or a limit
/// names them. They always help to attribute growth.
pub fn judge_all(recording: &Recording, held: Held<'_>) -> Vec<Judged> {
    let limit = |series: &Series| {
        let listed =
            held.limits.zip(recording.run.as_ref()).and_then(|(limits, run)| limits.find(run, &series.lane));
        listed.cloned().or_else(|| {
            let max_slope = held.max_slope.filter(|_| unit(&series.lane) == "bytes" && held.limits.is_none());
            max_slope.map(|max_slope| Limit { max_slope: Some(max_slope), ..Limit::default() })
        })
    };
    let limits: Vec<Option<Limit>> = recording.series.iter().map(limit).collect();
    let usual = usual_limit(recording, held);
    let slopes: Vec<Slope> = recording
        .series
        .iter()
        .zip(&limits)
        .map(|(series, limit)| slope(series, limit.as_ref(), usual))
        .collect();
    let lanes: Vec<LaneSlope<'_>> = (recording.series.iter().zip(&slopes))
        .map(|(series, slope)| LaneSlope { name: &series.lane, points: &series.points, slope })
        .collect();
    let wanted = |series: &Series, limit: &Option<Limit>| {
        limit.is_some()
            || held.exact && is_exact(&series.lane)
            || held.limits.is_none() && unit(&series.lane) == "bytes"
    };
    let mut judged: Vec<Judged> = (recording.series.iter().zip(&slopes).zip(&limits))
        .filter(|((series, _), limit)| wanted(series, limit))
        .map(|((series, slope), limit)| {
            let mut judged = Judged::of(series, slope, limit.as_ref(), held.capacity);
            judged.run = recording.run.clone();
            if held.exact && is_exact(&series.lane) {
                judged.compare_epochs(recording);
            }
            judged.attribution = attribute(&series.lane, &lanes, &recording.edges)
                .filter(|_| judged.verdict == SlopeVerdict::Exceeds)
                .map(|found| found.to_string());
            judged
        })
        .collect();
    judged.extend(unmeasured(recording, held));
    judged
}

/// The limit for a lane of bytes without its own, used only to say whether the lane grew with another: the largest of
/// all limits.
fn usual_limit(recording: &Recording, held: Held<'_>) -> BytesPerStep {
    let listed =
        held.limits.zip(recording.run.as_ref()).into_iter().flat_map(|(limits, run)| limits.of_run(run));
    // A limit on a count says nothing about bytes.
    let listed = listed.filter(|limit| unit(&limit.lane) == "bytes").filter_map(|limit| limit.max_slope);
    let most = listed.chain(held.max_slope).map(|limit| limit.0).fold(0.0, f64::max);
    BytesPerStep(most)
}

fn slope(series: &Series, limit: Option<&Limit>, usual: BytesPerStep) -> Slope {
    let usual = if unit(&series.lane) == "bytes" { usual } else { COUNT_LIMIT };
    judge(&series.points, limit.and_then(|limit| limit.max_slope).unwrap_or(usual))
}

/// A row for each limit on this run whose lane the run does not have, and one for a run that no limit names. Without
/// these rows a lane that disappears would pass.
fn unmeasured(recording: &Recording, held: Held<'_>) -> Vec<Judged> {
    let Some(limits) = held.limits else { return Vec::new() };
    let file = recording.series.first().map_or_else(String::new, |series| series.file.clone());
    let row = |lane: &str, reason: String| Judged::missing(&file, lane, reason, recording.run.clone());
    let Some(run) = &recording.run else {
        return vec![row(
            "",
            "the limits are by scenario and device, and only a trace names these".to_owned(),
        )];
    };
    let mine: Vec<&Limit> = limits.of_run(run).collect();
    if mine.is_empty() {
        return vec![row("", format!("no limit names scenario {} on {}", run.scenario, run.device))];
    }
    let absent = mine.iter().filter(|limit| !recording.series.iter().any(|series| series.lane == limit.lane));
    absent.map(|limit| row(&limit.lane, format!("no {} in the trace", limit.lane))).collect()
}

impl Judged {
    fn of(series: &Series, slope: &Slope, limit: Option<&Limit>, capacity: Option<Bytes>) -> Self {
        let peak = series.points.iter().map(|point| point.bytes).fold(0.0, f64::max);
        let (Some(first), Some(last)) = (series.points.first(), series.points.last()) else {
            return Self::missing(&series.file, &series.lane, "no samples".to_owned(), None);
        };
        let free = capacity.map(|capacity| capacity.0 as f64 - last.bytes);
        let growth = slope.slope_per_step;
        let mut judged = Self {
            verdict: slope.verdict,
            slope_per_step: growth,
            low: slope.low,
            high: slope.high,
            limit_per_step: limit.and_then(|limit| limit.max_slope).map(|limit| limit.0),
            steps: (last.step - first.step) as u64,
            further_steps: slope.further_steps,
            from_step: slope.from_step,
            steps_to_exhaustion: free.filter(|_| growth > 0.0).map(|free| steps_to_fill(free, growth)),
            peak: peak as u64,
            limit_peak: limit.and_then(|limit| limit.max_peak).map(|limit| limit.0),
            baseline: limit.and_then(|limit| limit.baseline),
            ..Self::missing(&series.file, &series.lane, slope.reason.clone(), None)
        };
        judged.hold(limit);
        judged
    }

    /// A row without a slope.
    fn missing(file: &str, lane: &str, reason: String, run: Option<Ran>) -> Self {
        Self {
            file: file.to_owned(),
            lane: lane.to_owned(),
            unit: unit(lane),
            verdict: SlopeVerdict::NotJudged,
            slope_per_step: 0.0,
            low: None,
            high: None,
            limit_per_step: None,
            steps: 0,
            further_steps: None,
            from_step: None,
            steps_to_exhaustion: None,
            peak: 0,
            limit_peak: None,
            baseline: None,
            attribution: None,
            reason,
            run,
        }
    }

    /// Compares the peak with its limit. A lane without a limit on its slope is judged by its peak only, or not judged.
    fn hold(&mut self, limit: Option<&Limit>) {
        if limit.and_then(|limit| limit.max_slope).is_none() {
            let (verdict, reason) = match self.limit_peak {
                Some(_) => (SlopeVerdict::Within, "its slope has no limit".to_owned()),
                None => (SlopeVerdict::NotJudged, "it has no limit: give --max-slope or --limits".to_owned()),
            };
            (self.verdict, self.reason, self.further_steps) = (verdict, reason, None);
        }
        if let Some(most) = self.limit_peak {
            let (peak, shown) = (Bytes(self.peak), Bytes(most));
            if self.peak > most {
                self.verdict = SlopeVerdict::Exceeds;
                self.reason = format!("its peak {peak} is above the limit {shown}; {}", self.reason);
            } else {
                self.reason.push_str(&format!("; its peak {peak} is within {shown}"));
            }
        }
    }

    /// Equal bytes at the same phase of the last two epochs are no growth; a difference is. The slope uses more
    /// samples, so a slope that exceeds its limit still decides.
    fn compare_epochs(&mut self, recording: &Recording) {
        let found = exact(recording.samples.get(&self.lane).map_or(&[], Vec::as_slice));
        let unit = self.unit;
        if let Some((earlier, later)) = found.differ {
            self.verdict = SlopeVerdict::Exceeds;
            self.reason = format!(
                "at phase {} it held {} {unit} in epoch {} (step {}) and {} in epoch {} (step {}); {}",
                earlier.phase,
                earlier.held,
                earlier.epoch,
                earlier.step,
                later.held,
                later.epoch,
                later.step,
                self.reason
            );
        } else if found.compared == 0 {
            self.verdict =
                if self.verdict == SlopeVerdict::Exceeds { self.verdict } else { SlopeVerdict::NotJudged };
            self.reason = format!("there are no two whole epochs to compare; {}", self.reason);
        } else {
            let same = format!("the same {unit} at all {} phases of the last two epochs", found.compared);
            match self.verdict {
                SlopeVerdict::NotJudged => (self.verdict, self.reason) = (SlopeVerdict::Within, same),
                // Equal epochs do not outvote a slope that exceeds: the two epochs may both be in a plateau.
                _ => self.reason = format!("{same}; {}", self.reason),
            }
            self.further_steps = None;
        }
    }
}

/// The whole steps until `free` bytes are taken.
fn steps_to_fill(free: f64, growth: f64) -> u64 {
    (free.max(0.0) / growth).floor() as u64
}
