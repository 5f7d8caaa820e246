//! Growth that has not been seen for long enough to be shown, and long enough that "within" would be wrong.

use rstest::rstest;
use traintrue_memory::bytes::BytesPerStep;
use traintrue_memory::series::Point;
use traintrue_memory::slope::{Slope, SlopeVerdict, judge};

const MIB: f64 = 1_048_576.0;
const LIMIT: f64 = 65_536.0;
/// 195 KiB, three times the limit.
const LEAK: f64 = 199_680.0;

fn judged(steps: usize, bytes: impl Fn(usize) -> f64) -> Slope {
    let point = |step: usize| Point { step: step as f64, bytes: 1e9 + bytes(step) };
    judge(&(0..steps).map(point).collect::<Vec<_>>(), BytesPerStep(LIMIT))
}

/// A number in -1 to 1 that looks random and is the same each time.
fn wobble(step: usize) -> f64 {
    let mixed = (step as u64).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    ((mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9) >> 40) as f64 / f64::from(1 << 23) - 1.0
}

#[rstest]
fn a_leak_that_begins_late_is_not_judged_until_it_has_lasted(
    #[values(600, 1000, 3000)] steps: usize,
    #[values(2, 5, 10)] percent: usize,
    #[values(0.0, 0.2)] noise_mib: f64,
) {
    let begins = steps - steps * percent / 100;
    let leak = |step: usize| step.saturating_sub(begins) as f64 * LEAK + noise_mib * MIB * wobble(step);
    let slope = judged(steps, leak);
    assert_eq!(slope.verdict, SlopeVerdict::NotJudged, "{}", slope.reason);
    let further = slope.further_steps.expect("it says when there will be a verdict") as usize;
    let longer = judged(steps + further, leak);
    assert_eq!(longer.verdict, SlopeVerdict::Exceeds, "{further} further steps: {}", longer.reason);
}

/// By period, jump and steps: jumps at the end of each period, flat between them.
#[rstest]
#[case::three_of_300(300, 60.0, 1000)]
#[case::six_of_300(300, 60.0, 2000)]
#[case::two_of_400(400, 80.0, 1000)]
#[case::two_epochs(200, 254.0, 410)]
#[case::three_epochs(200, 254.0, 610)]
#[case::three_epochs_but_for_the_last_edge(200, 254.0, 600)]
#[case::four_epochs(200, 254.0, 810)]
#[case::two_long_epochs(1250, 254.0, 2520)]
#[case::four_long_epochs(1250, 254.0, 5000)]
fn equal_jumps_at_one_distance_are_never_within(
    #[case] period: usize,
    #[case] mib: f64,
    #[case] steps: usize,
) {
    let slope = judged(steps, |step| (step / period) as f64 * mib * MIB);
    let seen = (steps - 1) / period;
    let expected = if seen > 2 { SlopeVerdict::Exceeds } else { SlopeVerdict::NotJudged };
    assert_eq!(slope.verdict, expected, "{}", slope.reason);
    if let Some(further) = slope.further_steps {
        let longer = judged(steps + further as usize, |step| (step / period) as f64 * mib * MIB);
        assert_eq!(longer.verdict, SlopeVerdict::Exceeds, "{further} further steps: {}", longer.reason);
    }
}

/// A list that doubles when it is full, and is never emptied.
#[rstest]
fn a_buffer_that_doubles_is_never_within(#[values(1000, 1600, 2000)] steps: usize) {
    let slope = judged(steps, |step| (step.max(25) as f64 / 25.0).log2().floor().exp2() * 25.0 * MIB);
    assert_ne!(slope.verdict, SlopeVerdict::Within, "{}", slope.reason);
}

/// What pools and the last batch do.
#[rstest]
#[case::one_jump_late(&[(960, 60.0)])]
#[case::two_jumps_of_two_sizes(&[(300, 60.0), (600, 90.0)])]
#[case::two_equal_jumps_long_ago(&[(100, 60.0), (200, 60.0)])]
#[case::two_equal_jumps_at_two_distances(&[(100, 60.0), (600, 60.0)])]
#[case::ever_rarer(&[(20, 60.0), (60, 60.0), (180, 60.0), (540, 60.0)])]
fn jumps_that_do_not_recur_are_within(#[case] jumps: &[(usize, f64)]) {
    let held = |step: usize| jumps.iter().filter(|(at, _)| step >= *at).map(|(_, mib)| mib * MIB).sum();
    let slope = judged(1000, held);
    assert_eq!(slope.verdict, SlopeVerdict::Within, "{}", slope.reason);
}

/// A counter at four checkpoints: objects, handles, blocks.
#[rstest]
#[case::over_the_limit(&[1.0e6, 51.0e6, 101.0e6, 151.0e6], SlopeVerdict::Exceeds, "grew 3 times in a row by exactly 50000000, every 100 steps")]
#[case::small(&[1087.0, 1673.0, 2259.0, 2845.0], SlopeVerdict::NotJudged, "it grew 3 times in a row by exactly 586, every 100 steps")]
#[case::unequal(&[1.0e6, 51.0e6, 101.0e6, 151.1e6], SlopeVerdict::NotJudged, "a slope needs 24 points, and there are 4")]
#[case::twice(&[1.0e6, 51.0e6, 101.0e6], SlopeVerdict::NotJudged, "a slope needs 24 points, and there are 3")]
#[case::flat(&[1.0e6; 4], SlopeVerdict::NotJudged, "a slope needs 24 points, and there are 4")]
fn exactly_equal_growth_needs_no_slope(
    #[case] held: &[f64],
    #[case] verdict: SlopeVerdict,
    #[case] says: &str,
) {
    let point = |(at, bytes): (usize, &f64)| Point { step: at as f64 * 100.0, bytes: *bytes };
    let slope = judge(&held.iter().enumerate().map(point).collect::<Vec<_>>(), BytesPerStep(LIMIT));
    assert_eq!(slope.verdict, verdict, "{}", slope.reason);
    assert!(slope.reason.contains(says), "{}", slope.reason);
}

#[test]
fn equal_jumps_at_one_distance_are_told_with_both() {
    let slope = judged(1000, |step| (step / 50) as f64 * 300.0 * MIB + 0.2 * MIB * wobble(step));
    assert_eq!(slope.verdict, SlopeVerdict::Exceeds);
    assert!(slope.reason.contains("jumps of about 300 MiB, one every 50 steps"), "{}", slope.reason);
}
