//! The exit status, the same for every verb.

/// What a command came to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Exit {
    /// Everything held.
    Held = 0,
    /// Something is broken; or a fault was missed, noisy, unviable or timed out, or the kill matrix is not the golden one.
    Broken = 1,
    /// The input or the request is wrong, or a trainer cannot be started.
    Request = 2,
    /// Nothing is broken, but something could not be judged.
    NotJudged = 3,
    /// The unfaulted baseline is broken, so no fault was tried.
    Baseline = 4,
}

impl Exit {
    /// The status, as the system has it.
    pub fn code(self) -> u8 {
        self as u8
    }

    /// The worse of two: 2, 4, 1, 3, 0.
    #[must_use]
    pub fn worst(self, other: Self) -> Self {
        if self.rank() <= other.rank() { self } else { other }
    }

    fn rank(self) -> u8 {
        match self {
            Self::Request => 0,
            Self::Baseline => 1,
            Self::Broken => 2,
            Self::NotJudged => 3,
            Self::Held => 4,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_wins_in_the_order_2_4_1_3_0() {
        let order = [Exit::Request, Exit::Baseline, Exit::Broken, Exit::NotJudged, Exit::Held];
        assert_eq!(order.map(Exit::code), [2, 4, 1, 3, 0]);
        for (at, worse) in order.into_iter().enumerate() {
            for better in &order[at..] {
                assert_eq!(worse.worst(*better), worse);
                assert_eq!(better.worst(worse), worse);
            }
        }
    }
}
