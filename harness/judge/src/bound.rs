//! How much two correct computations of the same number may differ, derived from the number format.
//!
//! **One sum.** With unit roundoff `u`, a sum of `n` terms in any order is off by at most `gamma(n) * sum |x|`, where
//! `gamma(n) = n u / (1 - n u)` (Higham, Accuracy and Stability of Numerical Algorithms, 2nd ed., section 3.1). Two
//! orders differ by at most twice that. In half precision `n u` reaches 1 and the worst case says nothing; there the
//! probabilistic bound `6 sqrt(n) u` is used (Higham and Mary, A New Approach to Probabilistic Rounding Error Analysis,
//! 2019), which fails with a probability below 1e-7.
//!
//! A bound that is as large as the values themselves would accept any two values. In that case nothing is compared.
//!
//! **A gradient.** `n` counts what an element of it is summed over: the positions of the window, and, forward and
//! backward, the largest extent of each tensor on its path. The bound is norm-wise: the error, as a vector, is at most
//! [`between`] times the norm of the whole gradient.
//!
//! **A sketch** is a seeded sum of a tensor's values with random signs: an error vector `e` moves it by more than
//! `6 |e|` with a probability below 3e-8 (Hoeffding).
//!
//! **Parameters.** One AdamW update moves an element by about `lr * m / (sqrt(v) + eps)`: a gradient that is off by `d`
//! changes that by at most `2 d / eps`, and never by more than 2, the distance between two signs. With `delta`
//! the norm of the gradient's error, the update's error vector is at most `lr * min(2 sqrt(numel), 2 delta / eps)`.
//! An `eps` far below `delta / sqrt(numel)` makes the bound as wide as the step itself. A plan that judges parameters
//! closely sets a larger `eps`. Errors add up over the updates, and each update rounds every value once.

use traintrue_protocol::plan::Dtype;

/// A sketch moves by at most this many norms of an error, but for a probability below 3e-8.
const SKETCH: f64 = 6.0;

/// Half the distance between 1 and the next number of a format.
pub fn unit_roundoff(dtype: Dtype) -> f64 {
    let bits = match dtype {
        Dtype::F32 => 24,
        Dtype::F16 => 11,
        Dtype::Bf16 => 8,
    };
    2f64.powi(-bits)
}

/// The bound is as large as the values, so that it accepts any two values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("rounding in {dtype} over {terms} terms is as large as the values, so they are not compared")]
pub struct Unbounded {
    /// The terms of the sum.
    pub terms: u64,
    /// The format of the sum.
    pub dtype: Dtype,
}

/// The largest relative difference between two ways of summing `n` terms: below 1.
pub fn between(n: u64, dtype: Dtype) -> Result<f64, Unbounded> {
    grown(n, dtype, 1.0)
}

/// [`between`] times `growth`, for values computed from others that already differ. Below 1.
pub fn grown(n: u64, dtype: Dtype, growth: f64) -> Result<f64, Unbounded> {
    let unit = unit_roundoff(dtype);
    let worst = n as f64 * unit;
    let bound = match dtype {
        Dtype::F32 if worst < 1.0 => 2.0 * worst / (1.0 - worst),
        Dtype::F32 => f64::INFINITY,
        // The worst case grows with n and soon says nothing in 16 bits; the probabilistic bound grows with its root.
        Dtype::F16 | Dtype::Bf16 => 2.0 * SKETCH * (n as f64).sqrt() * unit,
    };
    let bound = growth * bound;
    if bound < 1.0 { Ok(bound) } else { Err(Unbounded { terms: n, dtype }) }
}

/// Terms that an element of a gradient is summed over: `positions` of the window, and each tensor's largest extent,
/// forward and backward.
pub fn gradient_terms<'a>(positions: u64, shapes: impl Iterator<Item = &'a [u64]>) -> u64 {
    let extents = shapes.map(|shape| shape.iter().copied().max().unwrap_or(0));
    extents.fold(positions, |terms, extent| terms.saturating_add(extent.saturating_mul(2)))
}

/// Terms that an output of a forward is summed over, where the widths of two forwards are known and their tensors are
/// not: four passes over each row (scores, softmax, values, pooling), and 1024 for the model's own extents. In half
/// precision the products of matrices are added up in float32, and what is summed is the row, once, in pooling.
pub fn output_terms(width: u64, other: u64, dtype: Dtype) -> u64 {
    match dtype {
        Dtype::F32 => width.saturating_add(other).saturating_mul(4).saturating_add(1024),
        Dtype::F16 | Dtype::Bf16 => width.saturating_add(other),
    }
}

/// How much two sums of losses over this weight may differ, by a `relative` bound. A sum near 0 is a difference of larger
/// numbers, about one a target.
pub fn of_losses(relative: f64, sum: f64, other: f64, weight: f64) -> f64 {
    relative * sum.abs().max(other.abs()).max(weight.abs())
}

/// How much a sketch of a vector may change if the vector's error has the norm `error`.
pub fn sketch(error: f64) -> f64 {
    SKETCH * error
}

/// How much the parameters of two correct runs may differ by now.
#[derive(Clone, Copy, Debug, Default)]
pub struct Drift {
    updates: u64,
    /// Sum over updates of `lr`. An element differs by at most twice that.
    signs: f64,
    /// Sum over updates of `lr * delta / eps`.
    errors: f64,
}

impl Drift {
    /// Adds one update: its learning rate, the optimizer's `eps`, and the norm of the gradient's error.
    pub fn update(&mut self, lr: f64, eps: f64, delta: f64) {
        self.updates += 1;
        self.signs += lr;
        self.errors += lr * delta / eps;
    }

    /// Updates added so far.
    pub fn updates(&self) -> u64 {
        self.updates
    }

    /// How far parameters of `numel` values may have moved apart, as a vector.
    pub fn of_parameters(&self, numel: u64) -> f64 {
        (2.0 * self.signs * (numel as f64).sqrt()).min(2.0 * self.errors)
    }

    /// How far a sketch of a tensor of `numel` values no larger than `scale` may have moved.
    pub fn of_sketch(&self, numel: u64, scale: f64, dtype: Dtype) -> f64 {
        let root = (numel as f64).sqrt();
        let rounding = self.updates as f64 * unit_roundoff(dtype) * root * scale;
        sketch(self.of_parameters(numel) + rounding)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    // 1000 / 2^24 = 5.960e-5; 2 x 5.960e-5 / (1 - 5.960e-5) = 1.1922e-4.
    #[case(1000, Dtype::F32, 1.1922e-4)]
    // 12 x sqrt(100) / 2^11 = 0.0586.
    #[case(100, Dtype::F16, 0.05859)]
    fn the_bound_of_a_sum_is_that_worked_out_by_hand(
        #[case] n: u64,
        #[case] dtype: Dtype,
        #[case] expected: f64,
    ) {
        let actual = between(n, dtype).unwrap();
        assert!((actual / expected - 1.0).abs() < 1e-3, "{actual}");
    }

    #[rstest]
    // 2^25 / 2^24 is past 1; 2 x 0.3 / (1 - 0.3) = 0.857, and twice that is past it too; 12 x sqrt(456) / 2^8 = 1.001.
    #[case(1 << 25, Dtype::F32, 1.0)]
    #[case(5_033_165, Dtype::F32, 2.0)]
    #[case(456, Dtype::Bf16, 1.0)]
    fn a_bound_as_large_as_the_values_is_none(#[case] n: u64, #[case] dtype: Dtype, #[case] growth: f64) {
        assert_eq!(grown(n, dtype, growth), Err(Unbounded { terms: n, dtype }));
        assert!(grown(n - 1, dtype, growth / 2.0).is_ok() || n == 1 << 25);
    }

    #[test]
    fn drift_is_capped_by_the_distance_of_two_signs() {
        let mut drift = Drift::default();
        drift.update(1e-3, 1e-8, 1.0);
        let sign = 6.0 * (2.0 * 1e-3 * 2.0 + 2.0 * 2f64.powi(-24));
        assert!((drift.of_sketch(4, 1.0, Dtype::F32) / sign - 1.0).abs() < 1e-9);
        let mut small = Drift::default();
        small.update(1e-3, 1.0, 1e-6);
        assert!(small.of_sketch(4, 1.0, Dtype::F32) < 1e-6);
    }

    #[test]
    fn gradient_terms_count_positions_and_both_passes() {
        let shapes: [&[u64]; 3] = [&[4, 64], &[64], &[]];
        assert_eq!(gradient_terms(100, shapes.into_iter()), 100 + 2 * 128);
    }
}
