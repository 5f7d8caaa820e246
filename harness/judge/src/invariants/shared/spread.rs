//! How much repeats of a non-deterministic trainer differ, and what difference that allows between two runs.
//!
//! The repeats of one plan are compared with each other. The relative distance of every value is noted by its field and
//! by the number of updates. Noise grows during training, so a value is allowed the largest distance that its field had
//! at up to twice as many updates. Two correct runs may differ by `FACTOR` times that: the measured distance is the
//! largest of a few samples, and the next sample may be larger. The allowance is never below what rounding can do.
//! Digests are useless here; sketches have a distance.

use std::collections::BTreeMap;

use traintrue_protocol::plan::Dtype;
use traintrue_protocol::trace::TraceError;

use crate::bound::unit_roundoff;
use crate::finding::Sheet;
use crate::invariants::shared::same::{Parting, Scope, walk_measuring};
use crate::rule::RunEvidence;

/// Two runs may differ by this multiple of the largest distance between the repeats.
const FACTOR: f64 = 8.0;

/// The first updates give few samples, so the distances of at least this many updates are always pooled.
const EARLY_UPDATES: u64 = 16;

/// Two sums of the same numbers may always differ by this many roundings.
const ROUNDINGS: f64 = 64.0;

/// The distances between repeats of one plan.
#[derive(Debug, Default)]
pub(crate) struct Spread {
    /// By field: updates done, and the largest relative distance so far. Both rise.
    by_field: BTreeMap<&'static str, Vec<(u64, f64)>>,
}

/// What the repeats of a run show.
pub(crate) enum Measured {
    /// There are none.
    Nothing,
    /// They do the same things, and their values differ by this much.
    Spread(Spread),
    /// They do different things, such as train in another order. Holds what differs.
    Disorder(String),
}

/// Measures the spread of a run's repeats.
pub(crate) fn measure(run: &RunEvidence) -> Result<Measured, TraceError> {
    if run.repeats.is_empty() {
        return Ok(Measured::Nothing);
    }
    let mut spread = Spread::default();
    for segments in &run.repeats {
        let repeat = RunEvidence { segments: segments.clone(), repeats: Vec::new(), ..run.clone() };
        let once = RunEvidence { repeats: Vec::new(), ..run.clone() };
        if let Some(divergence) = walk_measuring(&repeat, &once, Scope::Everything, &mut spread)? {
            let event = divergence.line.event.name();
            return Ok(Measured::Disorder(match divergence.parting {
                Parting::Field(differs) => format!("{} of the {event}", differs.field),
                _ => "the order of their events".to_owned(),
            }));
        }
    }
    Ok(Measured::Spread(spread))
}

/// What the repeats of the run `against` allow a figure to differ by, where there are repeats. No run can be compared
/// with one whose repeats do different things: the sheet then says why, and there is no such bound.
pub(crate) fn bound(against: &RunEvidence, sheet: &mut Sheet) -> Result<Option<Option<Spread>>, TraceError> {
    Ok(match measure(against)? {
        Measured::Nothing => Some(None),
        Measured::Spread(spread) => Some(Some(spread)),
        Measured::Disorder(what) => {
            sheet.cannot(&in_disorder(&against.name, &what));
            None
        }
    })
}

/// Why no run can be compared with a run whose repeats do different things.
pub(crate) fn in_disorder(run: &str, what: &str) -> String {
    format!("the repeats of {run} differ in {what}, so no run can be compared with them")
}

impl Spread {
    /// Notes the distance of two repeats in a field after `updates` updates.
    pub(crate) fn take(&mut self, field: &'static str, updates: u64, distance: f64) {
        let seen = self.by_field.entry(field).or_default();
        if seen.last().is_none_or(|(_, largest)| distance > *largest) {
            seen.push((updates, distance));
        }
    }

    /// The relative difference that two correct values may have after `updates` updates.
    pub(crate) fn allows(&self, field: &str, updates: u64) -> f64 {
        let horizon = updates.saturating_mul(2).max(EARLY_UPDATES);
        let seen = self.by_field.get(field).map_or(&[][..], Vec::as_slice);
        let within = seen.partition_point(|(at, _)| *at <= horizon);
        let largest = within.checked_sub(1).map_or(0.0, |last| seen[last].1);
        FACTOR * largest.max(ROUNDINGS * unit_roundoff(Dtype::F32))
    }

    /// The largest distance of all fields at the end, with its field.
    pub(crate) fn widest(&self) -> Option<(&'static str, f64)> {
        let ends = self.by_field.iter().filter_map(|(field, seen)| Some((*field, seen.last()?.1)));
        ends.max_by(|a, b| a.1.total_cmp(&b.1))
    }
}

/// The largest distance between two lists of values, relative to the largest value. Returns infinity if one value is not
/// finite and its counterpart is; two that are not finite are no distance apart.
pub(crate) fn distance(run: &[f64], against: &[f64]) -> f64 {
    let pairs = || run.iter().zip(against);
    if pairs().any(|(a, b)| a.is_finite() != b.is_finite()) {
        return f64::INFINITY;
    }
    let finite = || pairs().filter(|(a, _)| a.is_finite());
    let scale = finite().fold(0.0_f64, |largest, (a, b)| largest.max(a.abs()).max(b.abs()));
    let apart = finite().fold(0.0_f64, |largest, (a, b)| largest.max((a - b).abs()));
    if scale == 0.0 { 0.0 } else { apart / scale }
}

#[cfg(test)]
mod tests {
    use traintrue_protocol::vocabulary::Moment;

    use rand::{Rng, SeedableRng};
    use rand_chacha::ChaCha8Rng;
    use rstest::rstest;

    use super::*;
    use crate::finding::Sheet;
    use crate::testing::*;
    use traintrue_protocol::number::Number;
    use traintrue_protocol::trace::Event;

    /// The run of the other tests by a trainer whose losses and norms are off by as much as `noise`, and whose digests
    /// are never the same twice.
    fn noisy(events: Vec<Event>, noise: f64, seed: u64) -> Vec<Event> {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut off = |number: &mut Number| number.0 *= 1.0 + noise * rng.random_range(-1.0..1.0);
        let mut events = events;
        for event in &mut events {
            match event {
                // With an eps so large that what rounding makes of the parameters stays small.
                Event::Run(it) => it.plan.train.optimizer.eps = 1.0,
                Event::MicroBatch(it) => it.losses.iter_mut().for_each(|loss| off(&mut loss.sum)),
                Event::Update(it) => {
                    it.grad_norm.iter_mut().chain(&mut it.clipped_norm).for_each(&mut off);
                    it.digest = Some(format!("t:{seed}"));
                }
                Event::State(it) if it.at == Moment::Update => {
                    it.tensors.iter_mut().flat_map(|tensor| &mut tensor.sketch).for_each(&mut off);
                    it.tensors.iter_mut().for_each(|tensor| tensor.digest = format!("t:{seed}"));
                }
                _ => {}
            }
        }
        events
    }

    fn judged(rule: &str, noise: f64, seed: u64, change: impl FnOnce(&mut Vec<Event>)) -> Sheet {
        let mut run = noisy(whole(), noise, 4 * seed);
        change(&mut run);
        let again = [noisy(whole(), noise, 4 * seed + 1), noisy(whole(), noise, 4 * seed + 2)];
        judge_repeated(rule, &[run], &[noisy(whole(), noise, 4 * seed + 3)], &again)
    }

    #[rstest]
    fn a_noisy_trainer_that_is_right_is_never_accused(
        #[values("seam/identical", "purity/same-trajectory", "determinism/repeat", "partition/same-update")]
        rule: &str,
        #[values(1e-7, 1e-5, 1e-2)] noise: f64,
    ) {
        for seed in 0..60 {
            holds(&judged(rule, noise, seed, |_| {}));
        }
    }

    #[rstest]
    #[case::loss(|events: &mut Vec<Event>| batch_at(events, 1, 2).losses[0].sum.0 *= 1.01)]
    #[case::order(|events: &mut Vec<Event>| batch_at(events, 0, 1).samples = Some(vec![3, 2]))]
    #[case::rate(|events: &mut Vec<Event>| update_at(events, 3).lr[0].0 *= 1.0001)]
    #[case::window(|events: &mut Vec<Event>| update_at(events, 2).micro_batches = Some(1))]
    #[case::lost(|events: &mut Vec<Event>| batch_at(events, 1, 2).losses[0].sum = Number(f64::NAN))]
    fn what_noise_does_not_explain_breaks_a_noisy_trainer_too(#[case] change: fn(&mut Vec<Event>)) {
        for rule in ["seam/identical", "purity/same-trajectory", "determinism/repeat"] {
            assert!(judged(rule, 1e-5, 1, change).broken.is_some(), "{rule}");
        }
    }

    #[test]
    fn the_spread_that_was_found_is_told() {
        let sheet = judged("determinism/repeat", 1e-3, 1, |_| {});
        let told = sheet.remarks.concat();
        assert!(
            told.starts_with("the repeats of against differ by up to ") && told.contains("e-3"),
            "{told}"
        );
    }

    #[test]
    fn nothing_is_held_against_repeats_that_do_other_things() {
        let mut other = noisy(whole(), 1e-5, 9);
        batch_at(&mut other, 0, 1).samples = Some(vec![3, 2]);
        let (run, against) = (noisy(whole(), 1e-5, 1), noisy(whole(), 1e-5, 2));
        let sheet = judge_repeated("seam/identical", &[run], &[against], &[other]);
        assert!(sheet.broken.is_none() && sheet.compared == 0);
        assert_eq!(
            sheet.missing.as_deref(),
            Some(
                "the repeats of against differ in samples of the micro_batch, so no run can be compared with them"
            )
        );
    }

    #[test]
    fn what_is_allowed_follows_the_noise_as_it_grows() {
        let mut spread = Spread::default();
        for (updates, distance) in [(1, 1e-4), (10, 5e-5), (40, 1e-3), (100, 1e-2)] {
            spread.take("loss sum", updates, distance);
        }
        assert_eq!(spread.allows("loss sum", 0), FACTOR * 1e-4);
        assert_eq!(spread.allows("loss sum", 19), FACTOR * 1e-4);
        assert_eq!(spread.allows("loss sum", 20), FACTOR * 1e-3);
        assert_eq!(spread.allows("loss sum", 1000), FACTOR * 1e-2);
        assert_eq!(spread.widest(), Some(("loss sum", 1e-2)));
        assert!(spread.allows("grad_norm", 5) > 1e-6, "nothing is held closer than rounding");
    }

    #[test]
    fn a_distance_is_relative_to_the_largest_figure() {
        assert_eq!(distance(&[4.0, 0.5], &[4.0, 1.5]), 0.25);
        assert_eq!(distance(&[0.0], &[0.0]), 0.0);
        assert_eq!(distance(&[f64::NAN, 4.0], &[f64::NAN, 5.0]), 0.2);
        assert_eq!(distance(&[f64::NAN], &[1.0]), f64::INFINITY);
    }
}
