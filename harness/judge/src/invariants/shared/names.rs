//! Names of tensors in a finding: the first few, and how many more there are.

/// More names than this are counted only.
const MOST: usize = 3;

/// `a, b, c and 2 more`.
pub(crate) fn listed<'a>(names: impl IntoIterator<Item = &'a str>) -> String {
    let names: Vec<&str> = names.into_iter().collect();
    let shown = names[..names.len().min(MOST)].join(", ");
    match names.len().saturating_sub(MOST) {
        0 => shown,
        more => format!("{shown} and {more} more"),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case(&[], "")]
    #[case(&["a"], "a")]
    #[case(&["a", "b", "c"], "a, b, c")]
    #[case(&["a", "b", "c", "d", "e"], "a, b, c and 2 more")]
    fn the_first_three_are_named_and_the_others_counted(#[case] names: &[&str], #[case] expected: &str) {
        assert_eq!(listed(names.iter().copied()), expected);
    }
}
