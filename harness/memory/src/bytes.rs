//! Amounts of memory as the command line takes them: `64KiB`, `20GiB`, `64KiB/step`.

use std::fmt;
use std::str::FromStr;

use serde::Serialize;

/// The units that are read and shown, the largest first. A number without a unit is refused: 64 may mean bytes or MiB.
const UNITS: [(&str, f64); 5] = [
    ("TiB", (1_u64 << 40) as f64),
    ("GiB", (1_u64 << 30) as f64),
    ("MiB", (1_u64 << 20) as f64),
    ("KiB", 1024.0),
    ("B", 1.0),
];

/// A text that is not an amount of memory.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum BytesError {
    #[error("{text:?} has no unit: expected a number with B, KiB, MiB, GiB or TiB, such as 64KiB")]
    NoUnit { text: String },
    #[error("{text:?} is not an amount of memory: {number:?} is not a finite number of at least 0")]
    NoNumber { text: String, number: String },
    #[error("{text:?} is not a limit on a slope: expected an amount per step, such as 64KiB/step")]
    NotPerStep { text: String },
}

/// An amount of memory, in bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bytes(pub u64);

/// A limit on growth, in bytes per step.
#[derive(Clone, Copy, Debug, PartialEq, PartialOrd)]
pub struct BytesPerStep(pub f64);

/// What growth is counted by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Per {
    /// One update of the trainer.
    Step,
    /// One second: for commands whose steps cannot be seen.
    Second,
}

/// A limit on growth, in bytes per step or per second.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate {
    /// The bytes.
    pub bytes: f64,
    /// Per step or per second.
    pub per: Per,
}

impl FromStr for Bytes {
    type Err = BytesError;

    fn from_str(text: &str) -> Result<Self, BytesError> {
        amount(text).map(|bytes| Self(bytes.round() as u64))
    }
}

impl FromStr for BytesPerStep {
    type Err = BytesError;

    fn from_str(text: &str) -> Result<Self, BytesError> {
        let bytes = text.trim().strip_suffix("/step");
        let bytes = bytes.ok_or_else(|| BytesError::NotPerStep { text: text.to_owned() })?;
        amount(bytes).map(Self)
    }
}

impl FromStr for Rate {
    type Err = BytesError;

    fn from_str(text: &str) -> Result<Self, BytesError> {
        match text.trim().strip_suffix("/s") {
            Some(bytes) => Ok(Self { bytes: amount(bytes)?, per: Per::Second }),
            None => text.parse().map(|BytesPerStep(bytes)| Self { bytes, per: Per::Step }),
        }
    }
}

impl fmt::Display for Per {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(match self {
            Self::Step => "step",
            Self::Second => "s",
        })
    }
}

impl fmt::Display for Rate {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}/{}", shown(self.bytes), self.per)
    }
}

impl fmt::Display for Bytes {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        to.write_str(&shown(self.0 as f64))
    }
}

impl fmt::Display for BytesPerStep {
    fn fmt(&self, to: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(to, "{}/step", shown(self.0))
    }
}

fn amount(text: &str) -> Result<f64, BytesError> {
    let text = text.trim();
    let unit = UNITS.iter().find_map(|(unit, bytes)| Some((text.strip_suffix(unit)?, bytes)));
    let (number, bytes) = unit.ok_or_else(|| BytesError::NoUnit { text: text.to_owned() })?;
    let number = number.trim();
    match number.parse::<f64>() {
        Ok(amount) if amount.is_finite() && amount >= 0.0 => Ok(amount * bytes),
        _ => Err(BytesError::NoNumber { text: text.to_owned(), number: number.to_owned() }),
    }
}

/// The amount in the largest unit of which it has at least one, with at most one decimal.
pub fn shown(bytes: f64) -> String {
    let (unit, size) = UNITS.iter().find(|(_, size)| bytes.abs() >= *size).unwrap_or(&UNITS[UNITS.len() - 1]);
    let tenths = (bytes / size * 10.0).round() / 10.0;
    format!("{tenths} {unit}")
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case("0B", 0)]
    #[case("64KiB", 65_536)]
    #[case(" 1.5 MiB ", 1_572_864)]
    #[case("20GiB", 21_474_836_480)]
    #[case("1.5TiB", 1_649_267_441_664)]
    fn an_amount_is_read_in_its_unit(#[case] text: &str, #[case] bytes: u64) {
        assert_eq!(text.parse(), Ok(Bytes(bytes)));
    }

    #[rstest]
    #[case("64", "has no unit")]
    #[case("64KB", "is not a finite number")]
    #[case("-1KiB", "is not a finite number")]
    #[case("nanMiB", "is not a finite number")]
    #[case("", "has no unit")]
    fn what_is_no_amount_is_refused_and_says_why(#[case] text: &str, #[case] why: &str) {
        let error = text.parse::<Bytes>().unwrap_err().to_string();
        assert!(error.contains(why), "{error}");
    }

    #[rstest]
    #[case("64KiB/step", Ok(65_536.0))]
    #[case("0B/step", Ok(0.0))]
    #[case("64KiB", Err("an amount per step"))]
    #[case("64/step", Err("has no unit"))]
    fn a_slope_limit_names_its_unit_and_its_step(#[case] text: &str, #[case] read: Result<f64, &str>) {
        match (text.parse::<BytesPerStep>(), read) {
            (Ok(limit), Ok(bytes)) => assert_eq!(limit.0, bytes),
            (Err(error), Err(why)) => assert!(error.to_string().contains(why), "{error}"),
            (found, expected) => panic!("{found:?}, expected {expected:?}"),
        }
    }

    #[rstest]
    #[case("64KiB/step", Rate { bytes: 65_536.0, per: Per::Step }, "64 KiB/step")]
    #[case("1.5MiB/s", Rate { bytes: 1_572_864.0, per: Per::Second }, "1.5 MiB/s")]
    fn growth_is_counted_by_step_or_by_second(#[case] text: &str, #[case] rate: Rate, #[case] shown: &str) {
        assert_eq!((text.parse(), rate.to_string()), (Ok(rate), shown.to_owned()));
    }

    #[test]
    fn growth_in_neither_is_refused() {
        assert!(matches!("64KiB/min".parse::<Rate>(), Err(BytesError::NotPerStep { .. })));
    }

    #[rstest]
    #[case(0.0, "0 B")]
    #[case(1023.0, "1023 B")]
    #[case(65_536.0, "64 KiB")]
    #[case(-1_572_864.0, "-1.5 MiB")]
    #[case(78_920_000_000.0, "73.5 GiB")]
    #[case(2_199_023_255_552.0, "2 TiB")]
    fn an_amount_is_shown_in_the_largest_unit_it_reaches(#[case] bytes: f64, #[case] text: &str) {
        assert_eq!(shown(bytes), text);
    }
}
