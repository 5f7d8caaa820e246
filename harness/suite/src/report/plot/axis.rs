//! The numbers beside a panel: whole powers of two of a unit, so that each is exact.

use traintrue_memory::bytes;

/// Bytes, or things that are counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(in crate::report) enum Unit {
    Bytes,
    Things,
}

impl Unit {
    /// The unit of a lane: units stand at the end of names.
    pub(in crate::report) fn of(lane: &str) -> Self {
        if lane.ends_with("bytes") { Self::Bytes } else { Self::Things }
    }

    /// An amount, as a person reads it.
    pub(in crate::report) fn shown(self, amount: f64) -> String {
        match self {
            Self::Bytes => bytes::shown(amount),
            Self::Things => format!("{}", (amount * 100.0).round() / 100.0 + 0.0),
        }
    }
}

/// From the least to the most of a lane, with places for numbers.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Axis {
    /// The height of the panel above the least.
    pub(super) top: f64,
    step: f64,
    unit: Unit,
}

impl Axis {
    /// The axis over `span`; a lane that does not move is shown against a few of its units.
    pub(super) fn over(span: f64, unit: Unit) -> Self {
        let least = match unit {
            Unit::Bytes => 4096.0,
            Unit::Things => 4.0,
        };
        let top = span.max(least) * 1.12;
        // Between two and four steps fit into the panel.
        let step = (top / 2.0).log2().floor().exp2();
        let step = if top / step >= 4.0 { step * 2.0 } else { step };
        Self { top, step: step.max(1.0), unit }
    }

    /// Where the numbers stand.
    pub(super) fn ticks(&self) -> Vec<f64> {
        (0..).map(|count| f64::from(count) * self.step).take_while(|tick| *tick <= self.top).collect()
    }

    /// A number, in the largest unit that the step is whole in.
    pub(super) fn label(&self, tick: f64) -> String {
        let units = [("GiB", 30), ("MiB", 20), ("KiB", 10), ("B", 0)];
        let (unit, size) = match self.unit {
            Unit::Things => ("", 1.0),
            Unit::Bytes => units
                .into_iter()
                .map(|(unit, power)| (unit, f64::from(power).exp2()))
                .find(|(_, size)| self.step >= *size)
                .unwrap_or(("B", 1.0)),
        };
        format!("+{:.0} {unit}", tick / size).trim_end().to_owned()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rstest::rstest;

    #[rstest]
    #[case(Unit::Bytes, -1536.0, "-1.5 KiB")]
    #[case(Unit::Things, 812.0, "812")]
    #[case(Unit::Things, -0.001, "0")]
    #[case(Unit::Things, 0.25, "0.25")]
    fn an_amount_keeps_its_sign(#[case] unit: Unit, #[case] amount: f64, #[case] text: &str) {
        assert_eq!(unit.shown(amount), text);
    }

    #[rstest]
    #[case::does_not_move(0.0, Unit::Bytes, &["+0 KiB", "+2 KiB", "+4 KiB"])]
    #[case::a_few_blocks(0.0, Unit::Things, &["+0", "+2", "+4"])]
    #[case::kibibytes(10_000.0, Unit::Bytes, &["+0 KiB", "+4 KiB", "+8 KiB"])]
    #[case::past_a_unit(1_600_000.0, Unit::Bytes, &["+0 KiB", "+512 KiB", "+1024 KiB", "+1536 KiB"])]
    #[case::gibibytes(9e9, Unit::Bytes, &["+0 GiB", "+4 GiB", "+8 GiB"])]
    fn the_numbers_beside_a_panel_are_few_and_exact(
        #[case] span: f64,
        #[case] unit: Unit,
        #[case] labels: &[&str],
    ) {
        let axis = Axis::over(span, unit);
        let shown: Vec<String> = axis.ticks().into_iter().map(|tick| axis.label(tick)).collect();
        assert_eq!(shown, labels);
    }
}
