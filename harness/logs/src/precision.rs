//! How far a printed number may lie from the one that was printed.

/// The digits of a column. Its most precise value shows them: `4.9e-5` may be short by rounding or by chance.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Precision(Option<Digits>);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Digits {
    significant: i32,
    decimals: i32,
}

/// An f64 that is written in full may have one digit fewer.
const FULL: i32 = 14;

impl Precision {
    /// Numbers as they are: a rounding is not allowed for.
    pub const EXACT: Self = Self(None);

    /// The precision that these values have in common.
    pub fn of(values: impl IntoIterator<Item = f64>) -> Self {
        let digits = values.into_iter().filter(|value| value.is_finite() && *value != 0.0).map(digits);
        let most = digits.reduce(|a, b| Digits {
            significant: a.significant.max(b.significant),
            decimals: a.decimals.max(b.decimals),
        });
        Self(most.filter(|it| it.significant < FULL))
    }

    /// Half a unit of the last digit: a column has a number of significant digits or of decimals, and the looser counts.
    pub fn half_unit(self, value: f64) -> f64 {
        let Some(digits) = self.0 else { return 0.0 };
        let decimals = match value {
            0.0 => digits.decimals,
            _ => digits.decimals.min(digits.significant - 1 - value.abs().log10().floor() as i32),
        };
        // Room for the f64 itself.
        0.5 * 10_f64.powi(-decimals) * (1.0 + 1e-9)
    }
}

fn digits(value: f64) -> Digits {
    let text = format!("{:e}", value.abs());
    let (mantissa, exponent) = text.split_once('e').unwrap_or((&text, "0"));
    let significant = mantissa.bytes().filter(u8::is_ascii_digit).count() as i32;
    let exponent: i32 = exponent.parse().unwrap_or(0);
    Digits { significant, decimals: significant - 1 - exponent }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case::significant(&[4.98e-5, 1.02e-4, 5e-4], 1.02e-4, 5e-7)]
    #[case::decimals(&[0.0012, 0.01, 0.0001], 0.0012, 5e-5)]
    #[case::zero(&[0.0012, 0.01], 0.0, 5e-5)]
    #[case::full(&[0.000_923_076_923_076_923, 5e-4], 5e-4, 0.0)]
    #[case::single(&[f64::from(9.230_769_4e-4_f32)], 5e-4, 0.0)]
    #[case::nothing(&[f64::NAN, 0.0], 5e-4, 0.0)]
    fn the_most_precise_value_shows_the_rounding(#[case] values: &[f64], #[case] of: f64, #[case] half: f64) {
        let found = Precision::of(values.iter().copied()).half_unit(of);
        assert!((found - half).abs() <= half * 1e-6, "{found}");
    }
}
