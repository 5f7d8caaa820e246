//! Compares the rows of two probes.

use traintrue_protocol::number::Number;
use traintrue_protocol::trace::event::{Probe, ProbeRow};

use crate::finding::Sheet;
use crate::near::near;

/// How close two values must be to count as equal.
#[derive(Clone, Copy)]
pub(crate) enum Tolerance {
    /// Bit for bit.
    Bits,
    /// Within this share of the largest magnitude in the row.
    Relative(f64),
}

/// The first difference of two rows.
pub(crate) struct Differs {
    pub(crate) expected: String,
    pub(crate) actual: String,
}

/// The first difference of two probes of the same samples, row by row.
pub(crate) fn differ(
    first: &Probe,
    other: &Probe,
    tolerance: Tolerance,
    sheet: &mut Sheet,
) -> Option<Differs> {
    let mut found = count(&first.rows, &other.rows, "rows", &other.name, sheet);
    for (index, (first, row)) in first.rows.iter().zip(&other.rows).enumerate() {
        let what = || format!("row {index} of {}", other.name);
        found = found.or(rows_differ(first, row, tolerance, &what, sheet));
    }
    found
}

/// The first difference of two rows of the same sample.
pub(crate) fn rows_differ(
    first: &ProbeRow,
    other: &ProbeRow,
    tolerance: Tolerance,
    what: &dyn Fn() -> String,
    sheet: &mut Sheet,
) -> Option<Differs> {
    let loss = (std::slice::from_ref(&first.loss), std::slice::from_ref(&other.loss));
    let parts = [
        ("loss", loss.0, loss.1),
        ("logits", &first.logits, &other.logits),
        ("head", &first.head, &other.head),
    ];
    let mut found = None;
    for (name, first, other) in parts {
        found = found.or(values_differ(first, other, tolerance, &|| format!("{name} of {}", what()), sheet));
    }
    found
}

fn values_differ(
    first: &[Number],
    other: &[Number],
    tolerance: Tolerance,
    what: &dyn Fn() -> String,
    sheet: &mut Sheet,
) -> Option<Differs> {
    let mut found = count(first, other, "values", "", sheet)
        .map(|it| Differs { expected: format!("{} in {}", it.expected, what()), ..it });
    let finite = first.iter().chain(other).filter(|value| value.is_finite());
    let scale = finite.map(|value| value.0.abs()).fold(0.0, f64::max);
    for (index, (a, b)) in first.iter().zip(other).enumerate() {
        sheet.compared += 1;
        let same = match tolerance {
            Tolerance::Bits => a == b,
            Tolerance::Relative(bound) => near(*b, *a, bound * scale),
        };
        if !same && found.is_none() {
            found = Some(Differs {
                expected: match tolerance {
                    Tolerance::Bits => format!("{:?} at {index} in the {}", a, what()),
                    Tolerance::Relative(bound) => {
                        format!("{:?} at {index} in the {}, within {}", a, what(), Number(bound * scale))
                    }
                },
                actual: format!("{b:?}"),
            });
        }
    }
    found
}

fn count<T>(first: &[T], other: &[T], what: &str, of: &str, sheet: &mut Sheet) -> Option<Differs> {
    sheet.compared += 1;
    (first.len() != other.len()).then(|| Differs {
        expected: format!("{} {what} {of}", first.len()).trim_end().to_owned(),
        actual: other.len().to_string(),
    })
}
