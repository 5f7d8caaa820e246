//! What a trace says of a tensor: a digest, which can say *equal*; a sketch, which can say *within a bound*; a norm.

/// A digest of values, as a trace has it. The first half of BLAKE3 keeps lines short.
///
/// ```
/// let digest = traintrue_protocol::digest::Digest::new().values(&[0.5, -1.0]).values(&[2.0]).text();
/// assert!(digest.starts_with("blake3:"));
/// ```
#[derive(Clone, Debug, Default)]
pub struct Digest(blake3::Hasher);

impl Digest {
    /// A digest of nothing.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds values, by their bits.
    pub fn values(mut self, values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        self.0.update(&bytes);
        self
    }

    /// Adds anything else by its bytes.
    pub fn bytes(mut self, bytes: &[u8]) -> Self {
        self.0.update(bytes);
        self
    }

    /// `algorithm:hex`.
    pub fn text(self) -> String {
        format!("blake3:{}", &self.0.finalize().to_hex()[..32])
    }
}

/// `count` sums of the values with seeded signs. Two tensors that differ by `e` differ in a sketch by a sum of randomly
/// signed elements of `e`, which is about as large as the L2 norm of `e`.
pub fn sketch(values: &[f32], count: u64) -> Vec<f64> {
    (0..count)
        .map(|number| values.iter().enumerate().map(|(at, &value)| sign(number, at) * f64::from(value)).sum())
        .collect()
}

/// The sign of element `at` in sketch `number` (the finaliser of SplitMix64).
fn sign(number: u64, at: usize) -> f64 {
    let mut x = (number << 48 | at as u64).wrapping_add(0x9E37_79B9_7F4A_7C15);
    x = (x ^ (x >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    if (x ^ (x >> 31)) & 1 == 0 { 1.0 } else { -1.0 }
}

/// The L2 norm over several tensors together, as `grad_norm` and `clipped_norm` have it.
pub fn norm<'a>(tensors: impl IntoIterator<Item = &'a [f32]>) -> f64 {
    tensors.into_iter().map(square_sum).sum::<f64>().sqrt()
}

/// The sum of the squares, in f64: a norm does not depend on the order in which a device sums.
pub fn square_sum(values: &[f32]) -> f64 {
    values.iter().map(|&x| f64::from(x) * f64::from(x)).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_digest_sees_one_bit_and_not_how_the_values_came() {
        let digest = |parts: &[&[f32]]| parts.iter().fold(Digest::new(), |it, part| it.values(part)).text();
        assert_eq!(digest(&[&[1.0, 2.0]]), digest(&[&[1.0], &[2.0]]));
        assert_ne!(digest(&[&[0.0]]), digest(&[&[-0.0]]));
    }

    #[test]
    fn a_norm_is_over_all_tensors_together() {
        assert_eq!(norm([[3.0].as_slice(), &[], &[4.0]]), 5.0);
    }

    #[test]
    fn a_sketch_moves_by_what_an_element_moves() {
        let [before, after] = [1.0, 1.25].map(|x| sketch(&[0.5, x, -2.0], 4));
        assert!(before.iter().zip(&after).all(|(a, b)| (a - b).abs() == 0.25));
    }
}
