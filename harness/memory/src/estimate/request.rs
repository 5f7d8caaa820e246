//! How a model is to be trained.

use traintrue_protocol::plan::Dtype;

use super::architecture::{Architecture, Target};
use super::engine::Engine;

/// The largest extent. No model has a larger one, and up to it the arithmetic cannot overflow.
pub(super) const EXTENT_MOST: u64 = 1 << 24;

/// What a model is trained with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optimizer {
    /// Two moments per trained parameter.
    Adamw,
    /// Stochastic gradient descent with momentum: one moment.
    Momentum,
    /// Stochastic gradient descent: none.
    Sgd,
}

impl Optimizer {
    /// Moments per trained parameter.
    pub(super) fn moments(self) -> u128 {
        match self {
            Self::Adamw => 2,
            Self::Momentum => 1,
            Self::Sgd => 0,
        }
    }
}

/// How the optimizer keeps its moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Moments {
    /// In a number format.
    In(Dtype),
    /// In one byte a value, with an f32 for every block of 256 (arXiv 2110.02861). Tensors of less than 4,096 values
    /// stay in f32, as bitsandbytes leaves them.
    EightBit,
}

impl Moments {
    /// One moment of a tensor with so many values.
    pub(super) fn bytes(self, values: u128) -> u128 {
        const BLOCK: u128 = 256;
        const SMALL: u128 = 4096;
        match self {
            Self::In(dtype) => values * u128::from(dtype.bytes()),
            Self::EightBit if values < SMALL => 4 * values,
            Self::EightBit => values + 4 * values.div_ceil(BLOCK),
        }
    }

    /// Bytes a value, as a person says it.
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::In(Dtype::F32) => "4 B",
            Self::In(Dtype::F16 | Dtype::Bf16) => "2 B",
            Self::EightBit => "1 B",
        }
    }
}

/// Adapters on a frozen base.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Adapters {
    /// Their rank.
    pub r: u64,
    /// The linears that have one.
    pub targets: Vec<Target>,
}

/// How a model is to be trained.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// Samples per micro-batch.
    pub batch: u64,
    /// Rows of the forward that one sample becomes: 3 where three inputs are concatenated.
    pub rows_per_sample: u64,
    /// Rows of a sample that logits are computed of; all where it is not said.
    pub labelled_rows: Option<u64>,
    /// Positions a row; of the encoder where there is one.
    pub length: u64,
    /// Positions a row of the decoder, where there is an encoder too.
    pub target_length: Option<u64>,
    /// Format of weights, gradients and activations.
    pub dtype: Dtype,
    /// Format of the moments.
    pub moments: Moments,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Adapters; none trains everything.
    pub adapters: Option<Adapters>,
    /// What computes it.
    pub engine: Engine,
    /// Micro-batches per window. With more than one, the gradients of earlier ones are in memory during the next.
    pub accumulation: u64,
    /// Whether an update clips gradients.
    pub clips: bool,
    /// Whether each block is recomputed in the backward pass from its input.
    pub checkpointing: bool,
    /// Whether training forwards keep keys and values.
    pub cache: bool,
}

/// A request that does not fit the model.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum RequestError {
    #[error("{field}: {found}, expected 1 to {EXTENT_MOST}")]
    OutOfRange { field: &'static str, found: u64 },
    #[error("length: {found}, but the model has a table of {positions} positions")]
    TooLong { found: u64, positions: u64 },
    #[error(
        "target length: missing; the model has an encoder and a decoder, say how long the decoder's rows are"
    )]
    NoTargetLength,
    #[error("target length: the model has no encoder, so its rows have one length")]
    TargetLength,
    #[error("length: {found}, but this model's rows always have {expected} positions")]
    OtherLength { found: u64, expected: u64 },
    #[error("adapters: the model has no linear called {0:?} that could have one")]
    NoSuchLinear(&'static str),
    #[error("adapters: {found} is part of one linear in this model, name all of {}", all.join(", "))]
    PartOfLinear { found: &'static str, all: Vec<&'static str> },
    #[error("adapters: no linear is named; expected at least one target")]
    NoLinear,
}

impl Request {
    /// Rows of a forward.
    pub(super) fn rows(&self) -> u128 {
        u128::from(self.batch) * u128::from(self.rows_per_sample)
    }

    /// Positions of the decoder's rows.
    pub(super) fn decoder_length(&self) -> u128 {
        self.target_length.unwrap_or(self.length).into()
    }

    /// Rows of a sample that logits are computed of.
    pub(super) fn labelled_rows(&self) -> u64 {
        self.labelled_rows.unwrap_or(self.rows_per_sample)
    }

    /// Checks it against the model.
    pub(super) fn check(&self, architecture: &Architecture) -> Result<(), RequestError> {
        let rank = self.adapters.as_ref().map_or(1, |adapters| adapters.r);
        let target_length = self.target_length.unwrap_or(1);
        for (field, found) in [
            ("batch", self.batch),
            ("rows per sample", self.rows_per_sample),
            ("rows", self.batch.saturating_mul(self.rows_per_sample)),
            ("labelled rows", self.labelled_rows()),
            ("accumulation", self.accumulation),
            ("length", self.length),
            ("target length", target_length),
            ("adapters", rank),
        ] {
            if !(1..=EXTENT_MOST).contains(&found) {
                return Err(RequestError::OutOfRange { field, found });
            }
        }
        if let Some(expected) = architecture.fixed_length.filter(|&it| it != self.length) {
            return Err(RequestError::OtherLength { found: self.length, expected });
        }
        // A learnt table is the decoder's, where there is one.
        let (positions, length) = (architecture.positions, self.target_length.unwrap_or(self.length));
        if positions > 0 && length > positions {
            return Err(RequestError::TooLong { found: length, positions });
        }
        match (architecture.has_encoder(), self.target_length) {
            (true, None) => return Err(RequestError::NoTargetLength),
            (false, Some(_)) => return Err(RequestError::TargetLength),
            _ => {}
        }
        self.adapters.as_ref().map_or(Ok(()), |adapters| check_targets(&adapters.targets, architecture))
    }
}

fn check_targets(targets: &[Target], architecture: &Architecture) -> Result<(), RequestError> {
    if targets.is_empty() {
        return Err(RequestError::NoLinear);
    }
    let linears = architecture.linears();
    for target in targets {
        let of = linears.iter().map(|(_, linear)| linear).find(|linear| linear.targets.contains(target));
        let linear = of.filter(|_| architecture.is_adaptable(*target));
        let linear = linear.ok_or(RequestError::NoSuchLinear(target.name()))?;
        if !linear.is_in(targets) {
            let all = linear.targets.iter().map(|it| it.name()).collect();
            return Err(RequestError::PartOfLinear { found: target.name(), all });
        }
    }
    Ok(())
}
