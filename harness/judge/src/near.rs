//! When two numbers of a trace agree, where one or both may be NaN or infinite.

use traintrue_protocol::number::Number;

/// Whether two numbers are within `bound` of each other. Two numbers that are not finite agree, because finite/everywhere
/// reports each of them; one that is not finite agrees with no number. A bound that is not finite comes from a value that
/// finite/everywhere reports too: it holds nothing else against the trainer.
pub(crate) fn near(found: Number, expected: Number, bound: f64) -> bool {
    match (found.is_finite(), expected.is_finite()) {
        (true, true) => !bound.is_finite() || (found.0 - expected.0).abs() <= bound,
        (found, expected) => found == expected,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::close(1.0, 1.05, 0.1, true)]
    #[case::apart(1.0, 1.2, 0.1, false)]
    #[case::both_lost(f64::NAN, f64::NAN, 0.1, true)]
    #[case::lost_in_two_ways(f64::NAN, f64::INFINITY, 0.1, true)]
    #[case::one_lost(f64::NAN, 1.0, 0.1, false)]
    #[case::the_other_lost(1.0, f64::INFINITY, f64::INFINITY, false)]
    #[case::bound_lost(1.0, 2.0, f64::NAN, true)]
    fn numbers_agree_within_a_bound(
        #[case] found: f64,
        #[case] expected: f64,
        #[case] bound: f64,
        #[case] agree: bool,
    ) {
        assert_eq!(near(Number(found), Number(expected), bound), agree);
    }
}
