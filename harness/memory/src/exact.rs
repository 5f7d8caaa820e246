//! Exact lanes: a trainer with flat memory holds the same number of bytes at the same phase of its last two epochs.
//!
//! Within an epoch memory varies with ragged batches, evaluations and checkpoints, so each sample is compared with the
//! one at the same place of the epoch before. There is no limit and no statistics: a counted heap has no noise.

use std::collections::BTreeMap;

/// What a lane held at one place of one epoch.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sample {
    /// The epoch, from 0.
    pub epoch: u64,
    /// The place among the samples of its epoch, from 0.
    pub phase: u64,
    /// Updates done.
    pub step: u64,
    /// What was held: bytes, or blocks if the lane counts blocks.
    pub held: u64,
}

/// The result of the comparison.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Exact {
    /// The number of compared pairs. If it is 0, nothing was judged.
    pub compared: u64,
    /// The first phase at which the two epochs differ: the sample of the earlier epoch, then that of the later one.
    pub differ: Option<(Sample, Sample)>,
}

/// Compares the last two whole epochs, phase by phase. An epoch is whole if no other has more samples: a cut run may
/// end within one. With fewer than two whole epochs nothing is compared.
pub fn exact(samples: &[Sample]) -> Exact {
    let mut epochs: BTreeMap<u64, BTreeMap<u64, Sample>> = BTreeMap::new();
    for sample in samples {
        epochs.entry(sample.epoch).or_default().insert(sample.phase, *sample);
    }
    let most = epochs.values().map(BTreeMap::len).max().unwrap_or(0);
    let mut whole = epochs.into_values().filter(|epoch| epoch.len() == most).rev();
    let (Some(later), Some(earlier)) = (whole.next(), whole.next()) else {
        return Exact { compared: 0, differ: None };
    };
    let pairs = || later.iter().filter_map(|(phase, later)| Some((*earlier.get(phase)?, *later)));
    Exact {
        compared: pairs().count() as u64,
        differ: pairs().find(|(earlier, later)| earlier.held != later.held),
    }
}

/// Numbers samples within their epochs, in the order in which they were taken: `(epoch, step, held)` each.
pub fn phased(samples: impl IntoIterator<Item = (u64, u64, u64)>) -> Vec<Sample> {
    let mut taken: BTreeMap<u64, u64> = BTreeMap::new();
    let numbered = samples.into_iter().map(|(epoch, step, held)| {
        let next = taken.entry(epoch).or_default();
        let phase = *next;
        *next += 1;
        Sample { epoch, phase, step, held }
    });
    numbered.collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Epochs of the bytes that are given, a step a sample.
    fn epochs(held: &[&[u64]]) -> Vec<Sample> {
        let flat = held
            .iter()
            .enumerate()
            .flat_map(|(epoch, held)| held.iter().map(move |held| (epoch as u64, *held)));
        phased(flat.enumerate().map(|(step, (epoch, held))| (epoch, step as u64 + 1, held)))
    }

    #[test]
    fn the_same_bytes_at_the_same_phase_hold_however_they_move_within_the_epoch() {
        let found = exact(&epochs(&[&[9, 1, 4], &[5, 1, 4], &[5, 1, 4]]));
        assert_eq!(found, Exact { compared: 3, differ: None });
    }

    #[test]
    fn the_first_phase_that_differs_is_named_with_the_bytes_of_both() {
        let found = exact(&epochs(&[&[5, 1, 4], &[5, 2, 9]]));
        let (earlier, later) = found.differ.unwrap();
        assert_eq!((found.compared, earlier.phase, earlier.held, later.held, later.step), (3, 1, 1, 2, 5));
    }

    #[test]
    fn an_epoch_that_was_cut_short_is_not_compared() {
        let found = exact(&epochs(&[&[5, 1, 4], &[5, 1, 4], &[7]]));
        assert_eq!(found, Exact { compared: 3, differ: None });
    }

    #[test]
    fn one_epoch_compares_nothing() {
        assert_eq!(exact(&epochs(&[&[5, 1, 4]])).compared, 0);
        assert_eq!(exact(&[]).compared, 0);
    }
}
