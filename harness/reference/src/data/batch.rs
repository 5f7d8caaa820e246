//! The rows of a forward pass, padded to one width, and their counts.

/// Token rows of one width, in row-major order.
#[derive(Clone, Debug)]
pub struct Rows {
    /// Token ids.
    pub ids: Vec<u32>,
    /// Whether a position is a token and not padding.
    pub real: Vec<bool>,
    /// The index of each token within its sample; padding counts for nothing.
    pub positions: Vec<u32>,
    /// The number of rows.
    pub count: usize,
    /// Positions per row.
    pub width: usize,
}

impl Rows {
    /// The same rows in `parts` batches of equal size.
    pub fn in_parts(&self, parts: usize) -> Vec<Self> {
        let count = self.count / parts;
        let of = |part: usize| part * count * self.width..(part + 1) * count * self.width;
        (0..parts)
            .map(|part| Self {
                ids: self.ids[of(part)].to_vec(),
                real: self.real[of(part)].to_vec(),
                positions: self.positions[of(part)].to_vec(),
                count,
                width: self.width,
            })
            .collect()
    }
}

/// One micro-batch.
#[derive(Clone, Debug)]
pub struct Batch {
    /// Ids of the samples.
    pub samples: Vec<u64>,
    /// All rows: the anchors first, then, under a contrastive head, the positives and the negatives.
    pub rows: Rows,
    /// For each position of the anchors, the next token where it is supervised.
    pub targets: Vec<Option<u32>>,
    /// The counts of this micro-batch.
    pub counts: Counts,
}

impl Batch {
    /// The bytes of all buffers.
    pub fn bytes(&self) -> u64 {
        let positions =
            size_of_val(&*self.rows.ids) + size_of_val(&*self.rows.real) + size_of_val(&*self.rows.positions);
        (positions + size_of_val(&*self.samples) + size_of_val(&*self.targets)) as u64
    }
}

/// Counts of a micro-batch or of a window.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
pub struct Counts {
    /// Micro-batches.
    pub micro_batches: u64,
    /// Rows of the forward passes.
    pub rows: u64,
    /// Positions, padding included.
    pub positions: u64,
    /// Positions without padding.
    pub tokens: u64,
    /// Supervised positions.
    pub targets: u64,
    /// Samples with at least one token.
    pub samples: u64,
}

impl Counts {
    /// The sum of both.
    pub fn and(self, other: Self) -> Self {
        Self {
            micro_batches: self.micro_batches + other.micro_batches,
            rows: self.rows + other.rows,
            positions: self.positions + other.positions,
            tokens: self.tokens + other.tokens,
            targets: self.targets + other.targets,
            samples: self.samples + other.samples,
        }
    }
}
