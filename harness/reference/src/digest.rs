//! Digests, which can say *equal*, and sketches, which can say *within a bound*.

/// A digest of named chunks of values, as a trace has it. The first half of BLAKE3 keeps lines short.
pub struct Digest(blake3::Hasher);

impl Digest {
    /// A digest of nothing.
    pub fn new() -> Self {
        Self(blake3::Hasher::new())
    }

    /// Adds values.
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
