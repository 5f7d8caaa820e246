//! From values to heights: a linear scale, or a logarithmic one where the values span powers of ten.

/// Above this ratio of the most to the least, most of a course would be a flat line on a linear scale.
const RATIO_MOST: f64 = 1e3;
/// Gaps between numbers beside a panel.
const GAPS_MOST: f64 = 5.0;
/// Values beyond this have no finite difference.
const VALUE_MOST: f64 = 1e300;

/// The heights of a panel.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Scale {
    pub(super) bottom: f64,
    pub(super) top: f64,
    pub(super) logarithmic: bool,
}

impl Scale {
    /// The scale for values from `least` to `most`. Only a quantity that may grow by powers of ten has a logarithmic one.
    pub(super) fn over(least: f64, most: f64, may_grow: bool) -> Self {
        let (least, most) = (least.clamp(-VALUE_MOST, VALUE_MOST), most.clamp(-VALUE_MOST, VALUE_MOST));
        let logarithmic = may_grow && least > 0.0 && most / least >= RATIO_MOST;
        let (low, high) = if logarithmic { (least.log10(), most.log10()) } else { (least, most) };
        // A course without a rise of its own is shown in the middle.
        let span = high - low;
        let size = low.abs().max(high.abs());
        let margin = match span <= 1e-9 * size {
            true if size == 0.0 => 1.0,
            true => 0.1 * size,
            false => 0.06 * span,
        };
        // What is never negative needs no space below 0.
        let bottom = if low >= 0.0 && !logarithmic { (low - margin).max(0.0) } else { low - margin };
        Self { bottom, top: high + margin, logarithmic }
    }

    /// The height of a value.
    pub(super) fn height(&self, value: f64) -> f64 {
        let height = if self.logarithmic { value.log10() } else { value };
        height.clamp(self.bottom, self.top)
    }

    /// Where numbers stand, and the numbers.
    pub(super) fn ticks(&self) -> Vec<(f64, String)> {
        let at_least = if self.logarithmic { 1.0 } else { 0.0 };
        let (heights, step) = ticks(self.bottom, self.top, at_least);
        let label = |height: f64| match self.logarithmic {
            true if (-3.0..5.0).contains(&height) => format!("{}", 10_f64.powf(height.round())),
            true => format!("1e{height:.0}"),
            false => number(height, step),
        };
        heights.into_iter().map(|height| (height, label(height))).collect()
    }
}

/// The multiples of 1, 2 or 5 times a power of ten between two numbers, and the step between them.
pub(super) fn ticks(from: f64, to: f64, step_least: f64) -> (Vec<f64>, f64) {
    let wanted = ((to - from) / GAPS_MOST).max(step_least).max(f64::MIN_POSITIVE);
    let power = 10_f64.powf(wanted.log10().floor());
    let factor = [1.0, 2.0, 5.0, 10.0].into_iter().find(|it| it * power >= wanted * (1.0 - 1e-9));
    let step = factor.unwrap_or(10.0) * power;
    // Counted, so that no rounding adds up: ticks of 0.1 are 0.3 and not 0.30000000000000004.
    let (first, last) = ((from / step - 1e-9).ceil(), (to / step + 1e-9).floor());
    let count = (last - first).clamp(0.0, 3.0 * GAPS_MOST) as u32;
    ((0..=count).map(|it| (first + f64::from(it)) * step + 0.0).collect(), step)
}

/// A multiple of `step`, with as many digits as the step has.
fn number(value: f64, step: f64) -> String {
    let power = |it: f64| (it.abs() * (1.0 + 1e-9)).log10().floor();
    if value == 0.0 {
        return "0".to_owned();
    }
    if step >= 1e-3 && value.abs() < 1e5 {
        return format!("{value:.*}", (-power(step)).max(0.0) as usize);
    }
    format!("{value:.*e}", (power(value) - power(step)).clamp(0.0, 6.0) as usize)
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case::loss(0.4, 2.3, true, &["0.5", "1.0", "1.5", "2.0"])]
    #[case::rates(0.0, 5e-5, false, &["0", "2e-5", "4e-5"])]
    #[case::rates_between(1e-5, 3e-5, false, &["1.0e-5", "1.5e-5", "2.0e-5", "2.5e-5", "3.0e-5"])]
    #[case::constant(0.1, 0.1, false, &["0.090", "0.095", "0.100", "0.105", "0.110"])]
    #[case::zero(0.0, 0.0, true, &["0", "0.2", "0.4", "0.6", "0.8", "1.0"])]
    #[case::negative(-3.0, 2.0, true, &["-2", "0", "2"])]
    #[case::large(2e5, 9e5, false, &["2e5", "4e5", "6e5", "8e5"])]
    #[case::powers_of_ten(0.5, 2e6, true, &["1", "100", "10000", "1e6"])]
    #[case::a_rate_has_no_powers_of_ten(1e-9, 1e-3, false, &["0", "5e-4", "1.0e-3"])]
    fn the_numbers_beside_a_panel_are_few_and_round(
        #[case] least: f64,
        #[case] most: f64,
        #[case] may_grow: bool,
        #[case] labels: &[&str],
    ) {
        let shown: Vec<String> =
            Scale::over(least, most, may_grow).ticks().into_iter().map(|(_, label)| label).collect();
        assert_eq!(shown, labels);
    }

    #[rstest]
    #[case(f64::MIN, f64::MAX)]
    #[case(0.0, f64::MIN_POSITIVE)]
    #[case(1e-320, 1e300)]
    #[case(5.0, 5.0 + 1e-15)]
    fn every_pair_of_finite_values_has_a_scale(#[case] least: f64, #[case] most: f64) {
        let scale = Scale::over(least, most, true);
        assert!(scale.bottom < scale.top && (scale.top - scale.bottom).is_finite(), "{scale:?}");
        assert!(scale.ticks().len() <= 13);
        for value in [least, most] {
            assert!((scale.bottom..=scale.top).contains(&scale.height(value)));
        }
    }
}
