//! Which combination of given vectors another vector is: least squares by the normal equations.

/// More vectors than this are not taken apart: the normal equations lose half of the digits.
const MOST: usize = 64;

/// How far a vector may be from the combination, relative to its norm, to be called one.
const CLOSE: f64 = 1e-3;

/// The coefficients with which `parts` add up to `whole`. None where they do not, or where several combinations do.
pub(super) fn of(parts: &[Vec<f64>], whole: &[f64]) -> Option<Vec<f64>> {
    if parts.is_empty() || parts.len() > MOST || parts.len() > whole.len() {
        return None;
    }
    // Scaled to 1, so that a small gradient does not look like a dependent one.
    let norms: Vec<f64> = parts.iter().map(|part| dot(part, part).sqrt()).collect();
    if norms.iter().any(|norm| *norm == 0.0 || !norm.is_finite()) {
        return None;
    }
    let scaled: Vec<Vec<f64>> =
        parts.iter().zip(&norms).map(|(part, norm)| part.iter().map(|it| it / norm).collect()).collect();
    let rows = scaled.iter().map(|one| {
        let products = scaled.iter().map(|other| dot(one, other)).chain([dot(one, whole)]);
        products.collect::<Vec<f64>>()
    });
    let solved = solve(rows.collect())?;
    let sum = |place: usize| scaled.iter().zip(&solved).map(|(part, x)| part[place] * x).sum::<f64>();
    let left: f64 = whole.iter().enumerate().map(|(place, it)| (it - sum(place)).powi(2)).sum::<f64>().sqrt();
    let close = left <= CLOSE * dot(whole, whole).sqrt();
    close.then(|| solved.iter().zip(&norms).map(|(x, norm)| x / norm).collect())
}

fn dot(one: &[f64], other: &[f64]) -> f64 {
    one.iter().zip(other).map(|(a, b)| a * b).sum()
}

/// Gaussian elimination with pivots, of rows that end with their right side. None where the matrix is close to singular.
fn solve(mut rows: Vec<Vec<f64>>) -> Option<Vec<f64>> {
    /// The matrix is one of cosines: a smaller pivot says that two directions are one.
    const LEAST: f64 = 1e-9;
    let size = rows.len();
    for at in 0..size {
        let pivot = (at..size).max_by(|&a, &b| rows[a][at].abs().total_cmp(&rows[b][at].abs()))?;
        rows.swap(at, pivot);
        let (above, below) = rows.split_at_mut(at + 1);
        let row = &above[at];
        if row[at].abs() < LEAST || !row[at].is_finite() {
            return None;
        }
        for other in below {
            let factor = other[at] / row[at];
            other.iter_mut().zip(row).skip(at).for_each(|(value, over)| *value -= factor * over);
        }
    }
    let mut solved = vec![0.0; size];
    for at in (0..size).rev() {
        let known: f64 = (at + 1..size).map(|other| rows[at][other] * solved[other]).sum();
        solved[at] = (rows[at][size] - known) / rows[at][at];
    }
    Some(solved)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parts() -> Vec<Vec<f64>> {
        vec![vec![1.0, 2.0, 0.5, -1.0, 3.0], vec![0.1, -0.3, 0.2, 0.4, 0.0], vec![5.0, 1.0, -4.0, 2.0, 1.0]]
    }

    #[test]
    fn a_combination_gives_its_coefficients() {
        let parts = parts();
        let whole: Vec<f64> = (0..5).map(|at| 0.5 * parts[0][at] + 2.0 * parts[2][at]).collect();
        let found = of(&parts, &whole).unwrap();
        let off = found.iter().zip([0.5, 0.0, 2.0]).map(|(found, expected)| (found - expected).abs());
        assert!(off.fold(0.0, f64::max) < 1e-9, "{found:?}");
    }

    #[test]
    fn what_is_no_combination_gives_none() {
        assert_eq!(of(&parts(), &[0.0, 9.0, 0.0, 0.0, -9.0]), None);
    }

    #[test]
    fn parts_of_one_direction_have_no_coefficients_of_their_own() {
        let one = vec![1.0, 2.0, 3.0];
        assert_eq!(of(&[one.clone(), one.iter().map(|it| it * 2.0).collect()], &one), None);
        assert_eq!(of(&[vec![0.0; 3]], &one), None);
        assert_eq!(of(&[], &one), None);
    }
}
