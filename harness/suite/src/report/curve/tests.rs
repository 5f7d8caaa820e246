//! What a curve keeps of a course.

use super::*;
use rstest::rstest;

const NAN: f64 = f64::NAN;

fn curve(values: impl IntoIterator<Item = (u64, f64)>) -> Curve {
    let mut curve = Curve::default();
    values.into_iter().for_each(|(update, value)| curve.see(update, value));
    curve
}

#[rstest]
#[case::one_update(&[(1, 2.0)], vec![vec![(1, 2.0)]], &[])]
#[case::in_order(&[(1, 2.0), (2, 1.0)], vec![vec![(1, 2.0), (2, 1.0)]], &[])]
#[case::a_gap(&[(1, 2.0), (2, NAN), (3, 1.0)], vec![vec![(1, 2.0)], vec![(3, 1.0)]], &[2])]
#[case::infinite(&[(1, f64::INFINITY), (2, 1.0)], vec![vec![(2, 1.0)]], &[1])]
#[case::never_finite(&[(1, NAN), (2, NAN)], vec![], &[1, 2])]
#[case::done_again(
    &[(1, 3.0), (2, 2.0), (2, 2.5), (1, 2.0), (2, 1.0)],
    vec![vec![(1, 3.0), (2, 2.0), (2, 2.5)], vec![(1, 2.0), (2, 1.0)]],
    &[]
)]
fn a_short_course_is_drawn_as_it_is(
    #[case] values: &[Point],
    #[case] lines: Vec<Vec<Point>>,
    #[case] gaps: &[u64],
) {
    let curve = curve(values.iter().copied());
    assert_eq!(curve.lines(), lines);
    assert_eq!(curve.gaps().collect::<Vec<_>>(), gaps);
}

#[rstest]
#[case(239)]
#[case(240)]
#[case(100_000)]
fn a_long_course_keeps_every_extreme_and_is_short(#[case] updates: u64) {
    let spike = updates / 3;
    let value = |update| match update {
        it if it == spike => 1e6,
        it if it == spike + 2 => NAN,
        it => it as f64,
    };
    let curve = curve((1..=updates).map(|update| (update, value(update))));
    let points: Vec<Point> = curve.lines().concat();
    assert!(points.len() <= 4 * BUCKETS, "{}", points.len());
    assert!(points.contains(&(spike, 1e6)) && points.contains(&(1, 1.0)));
    assert!(points.contains(&(updates, updates as f64)));
    assert_eq!(curve.extremes(), Some(((1, 1.0), (spike, 1e6))));
    assert_eq!((curve.gaps().collect::<Vec<_>>(), curve.unfinite()), (vec![spike + 2], 1));
    assert_eq!((curve.lines().len(), curve.span()), (2, Some((1, updates))));
    assert!(points.is_sorted_by_key(|(update, _)| *update));
}

#[test]
fn buckets_that_are_merged_count_every_value_that_is_not_finite() {
    let curve = curve((1..=10_000).map(|update| (update, if update % 2 == 0 { NAN } else { 1.0 })));
    assert_eq!((curve.unfinite(), curve.extremes().map(|(least, _)| least)), (5_000, Some((1, 1.0))));
}
