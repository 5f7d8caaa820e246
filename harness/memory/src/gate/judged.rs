//! The verdict on one lane: its slope, its peak, its bytes from epoch to epoch, each against what it is held to.

use serde::Serialize;

use super::{Baseline, Held, Limit};
use crate::attribution::{Lane, attribute};
use crate::bytes::{Bytes, BytesPerStep};
use crate::exact::exact;
use crate::series::{Ran, Recording, Series};
use crate::slope::{Slope, SlopeVerdict, judge};

/// The lanes that a counter gives and no estimate: what they hold is compared to the byte.
const EXACT: [&str; 6] = [
    "heap_bytes",
    "heap_blocks",
    "device_in_use_bytes",
    "device_allocations",
    "tracked_bytes",
    "tracked_tensors",
];
/// The last words of lanes that count something else than bytes.
const COUNTS: [&str; 5] = ["blocks", "allocations", "tensors", "handles", "threads"];
/// A count grows where it gains one in a hundred steps.
const COUNT_LIMIT: BytesPerStep = BytesPerStep(0.01);

/// Whether a lane is exact.
pub fn is_exact(lane: &str) -> bool {
    EXACT.contains(&lane)
}

/// What a lane counts: `bytes`, unless its last word is another.
pub fn unit(lane: &str) -> &'static str {
    let last = lane.rsplit('_').next().unwrap_or(lane);
    COUNTS.iter().find(|unit| **unit == last).copied().unwrap_or("bytes")
}

/// The verdict on one lane of one file. Figures are bytes a step, or what else the lane counts.
#[derive(Clone, Debug, Serialize)]
pub struct Judged {
    /// The file, as it was named.
    pub file: String,
    /// The lane.
    pub lane: String,
    /// What is counted.
    pub unit: &'static str,
    /// The verdict.
    pub verdict: SlopeVerdict,
    /// The growth that persists.
    pub slope_per_step: f64,
    /// The lower end of its interval.
    pub low: Option<f64>,
    /// The upper end of its interval.
    pub high: Option<f64>,
    /// The limit; none where the lane is only compared from epoch to epoch, or nothing limits it.
    pub limit_per_step: Option<f64>,
    /// The steps from the first sample to the last.
    pub steps: u64,
    /// About how many more would settle what is not judged.
    pub further_steps: Option<u64>,
    /// The step at which the growth begins.
    pub from_step: Option<f64>,
    /// The steps until the capacity is full at this slope; none without a capacity, or without growth.
    pub steps_to_exhaustion: Option<u64>,
    /// The most that was held.
    pub peak: u64,
    /// What the most may be.
    pub limit_peak: Option<u64>,
    /// What was accepted last.
    pub baseline: Option<Baseline>,
    /// Which other lanes grew and what that says, where the lane grows.
    pub attribution: Option<String>,
    /// Why this verdict.
    pub reason: String,
    /// Which run it was, where the file is a trace.
    #[serde(skip)]
    pub run: Option<Ran>,
}

/// Judges the lanes of one recording. Lanes that count no bytes are judged only where `exact` compares them, or a limit
/// names them; else they serve to attribute.
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
    let lanes: Vec<Lane<'_>> = (recording.series.iter().zip(&slopes))
        .map(|(series, slope)| Lane { name: &series.lane, points: &series.points, slope })
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

/// What a lane of bytes that has no limit of its own is held to, to tell whether it grew with another: as much as any.
fn usual_limit(recording: &Recording, held: Held<'_>) -> BytesPerStep {
    let listed =
        held.limits.zip(recording.run.as_ref()).into_iter().flat_map(|(limits, run)| limits.of_run(run));
    let listed = listed.filter(|limit| unit(&limit.lane) == "bytes").filter_map(|limit| limit.max_slope);
    let most = listed.chain(held.max_slope).map(|limit| limit.0).fold(0.0, f64::max);
    BytesPerStep(most)
}

fn slope(series: &Series, limit: Option<&Limit>, usual: BytesPerStep) -> Slope {
    let usual = if unit(&series.lane) == "bytes" { usual } else { COUNT_LIMIT };
    judge(&series.points, limit.and_then(|limit| limit.max_slope).unwrap_or(usual))
}

/// A row for each limit on this run whose lane it does not have, and one for a run that no limit names.
fn unmeasured(recording: &Recording, held: Held<'_>) -> Vec<Judged> {
    let Some(limits) = held.limits else { return Vec::new() };
    let file = recording.series.first().map_or_else(String::new, |series| series.file.clone());
    let row = |lane: &str, reason: String| Judged::missing(&file, lane, reason, recording.run.clone());
    let Some(run) = &recording.run else {
        return vec![row("", "the limits are by scenario and device, which only a trace names".to_owned())];
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

    /// What there is no slope of.
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

    /// Holds the peak to its limit; a lane that has no limit on its slope is judged by its peak alone, or not at all.
    fn hold(&mut self, limit: Option<&Limit>) {
        if limit.and_then(|limit| limit.max_slope).is_none() {
            let (verdict, reason) = match self.limit_peak {
                Some(_) => (SlopeVerdict::Within, "nothing limits its slope".to_owned()),
                None => (SlopeVerdict::NotJudged, "nothing limits it: --max-slope or --limits do".to_owned()),
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

    /// The same at the same phase of the last two epochs is no growth, and a difference is. The slope, which takes more
    /// samples, then says the rest: it breaks what it is shown to exceed.
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
