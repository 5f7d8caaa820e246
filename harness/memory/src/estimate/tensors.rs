//! A list of tensors: how many bytes they take, and how many more an allocator takes for them.

/// Blocks of a caching allocator: sizes are rounded up to this.
const BLOCK_BYTES: u128 = 512;
/// Tensors up to this share segments of [`SMALL_SEGMENT_BYTES`].
const SMALL_BYTES: u128 = 1 << 20;
const SMALL_SEGMENT_BYTES: u128 = 2 << 20;
/// Tensors below this, and above the small ones, share segments of [`MEDIUM_SEGMENT_BYTES`].
const LARGE_BYTES: u128 = 10 << 20;
const MEDIUM_SEGMENT_BYTES: u128 = 20 << 20;
/// A large tensor has a segment of its own, rounded up to this.
const LARGE_ROUND_BYTES: u128 = 2 << 20;

/// Tensors by number and size.
#[derive(Clone, Debug, Default)]
pub struct Tensors(Vec<(u128, u128)>);

impl Tensors {
    /// Adds `count` tensors of `elements` elements of `width_bytes` each. None where that is nothing.
    pub fn add(&mut self, count: u128, elements: u128, width_bytes: u128) {
        if count * elements * width_bytes > 0 {
            self.0.push((count, elements * width_bytes));
        }
    }

    /// Adds all of `other`, `count` times.
    pub fn add_all(&mut self, count: u128, other: &Self) {
        self.0.extend(other.0.iter().filter(|_| count > 0).map(|&(each, bytes)| (count * each, bytes)));
    }

    /// The same tensors, each of the bytes that `bytes` makes of its own.
    pub fn map(&self, bytes: impl Fn(u128) -> u128) -> Self {
        Self(self.0.iter().map(|&(count, it)| (count, bytes(it))).collect())
    }

    /// The bytes of all of them.
    pub fn bytes(&self) -> u128 {
        self.0.iter().map(|(count, bytes)| count * bytes).sum()
    }

    /// The bytes of the largest.
    pub fn largest(&self) -> u128 {
        self.0.iter().map(|&(_, bytes)| bytes).max().unwrap_or(0)
    }

    /// What PyTorch's caching allocator reserves for them beyond their bytes, by its rules of rounding alone
    /// (`kSmallBuffer`, `kLargeBuffer` and `kRoundLarge` in c10's CUDACachingAllocator): no fragmentation, nothing cached.
    pub fn reserve_bytes(&self) -> u128 {
        let (mut small, mut medium, mut large) = (0, 0, 0);
        for &(count, bytes) in &self.0 {
            let block = bytes.next_multiple_of(BLOCK_BYTES);
            if block <= SMALL_BYTES {
                small += count * block;
            } else if block < LARGE_BYTES {
                medium += count * block;
            } else {
                large += count * block.next_multiple_of(LARGE_ROUND_BYTES);
            }
        }
        let reserved = small.next_multiple_of(SMALL_SEGMENT_BYTES)
            + medium.next_multiple_of(MEDIUM_SEGMENT_BYTES)
            + large;
        reserved - self.bytes()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    const MIB: u128 = 1 << 20;

    #[rstest]
    #[case::nothing(&[], 0)]
    #[case::one_float(&[(1, 4)], 2 * MIB - 4)]
    #[case::small_ones_share_a_segment(&[(2, MIB)], 0)]
    #[case::a_medium_one_opens_a_segment_of_20(&[(1, 3 * MIB)], 17 * MIB)]
    #[case::six_medium_ones_share_it(&[(6, 3 * MIB)], 2 * MIB)]
    #[case::a_large_one_is_rounded_to_2(&[(3, 11 * MIB)], 3 * MIB)]
    #[case::a_large_one_that_fits(&[(1, 10 * MIB)], 0)]
    fn the_reserve_is_what_rounding_adds(#[case] tensors: &[(u128, u128)], #[case] reserve: u128) {
        let mut list = Tensors::default();
        for &(count, bytes) in tensors {
            list.add(count, bytes, 1);
        }
        assert_eq!(list.reserve_bytes(), reserve);
    }

    #[test]
    fn lists_are_added_so_many_times() {
        let (mut one, mut all) = (Tensors::default(), Tensors::default());
        one.add(2, 3, 4);
        all.add(1, 1, 2);
        all.add_all(10, &one);
        all.add_all(0, &one);
        assert_eq!((one.bytes(), all.bytes()), (24, 242));
    }
}
