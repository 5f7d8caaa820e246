//! How a model is to be trained.

use traintrue_protocol::plan::Dtype;

use super::architecture::{Architecture, Target};

/// The most of any extent: above it is no model, and below it the arithmetic cannot overflow.
pub(super) const EXTENT_MOST: u64 = 1 << 24;

/// What a model is trained with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Optimizer {
    /// Two moments a trained parameter.
    Adamw,
    /// Stochastic gradient descent with momentum: one moment.
    Momentum,
    /// Stochastic gradient descent: none.
    Sgd,
}

impl Optimizer {
    /// Moments a trained parameter.
    pub(super) fn moments(self) -> u128 {
        match self {
            Self::Adamw => 2,
            Self::Momentum => 1,
            Self::Sgd => 0,
        }
    }
}

/// How attention is computed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Attention {
    /// Weights of every query on every key stand in memory.
    Materialised,
    /// They do not (FlashAttention, arXiv 2205.14135): one f32 a query and head is kept.
    Fused,
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
    /// Samples a micro-batch.
    pub batch: u64,
    /// Rows of the forward that one sample becomes: 3 where three inputs are concatenated.
    pub rows_per_sample: u64,
    /// Positions a row; of the encoder where there is one.
    pub length: u64,
    /// Positions a row of the decoder, where there is an encoder too.
    pub target_length: Option<u64>,
    /// Format of weights, gradients and activations.
    pub dtype: Dtype,
    /// Format of the moments.
    pub moments: Dtype,
    /// The optimizer.
    pub optimizer: Optimizer,
    /// Adapters; none trains everything.
    pub adapters: Option<Adapters>,
    /// The attention.
    pub attention: Attention,
    /// Whether each block is recomputed in the backward pass from its input.
    pub checkpointing: bool,
    /// Whether training forwards keep keys and values.
    pub cache: bool,
}

/// A request that cannot be followed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum RequestError {
    #[error("{field}: {found}, expected 1 to {EXTENT_MOST}")]
    OutOfRange { field: &'static str, found: u64 },
    #[error("length: {found}, but the model has a table of {positions} positions")]
    TooLong { found: u64, positions: u64 },
    #[error("target length: the model has an encoder and a decoder, say how long the decoder's rows are")]
    NoTargetLength,
    #[error("target length: the model has no encoder, so its rows have one length")]
    TargetLength,
    #[error("adapters: the model has no linear called {0:?}")]
    NoSuchLinear(&'static str),
    #[error("adapters: no linear is named that would have one")]
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

    /// Whether a linear learns: by its own weight, or by its adapter.
    pub(super) fn learns(&self, target: Target) -> bool {
        self.adapters.as_ref().is_none_or(|adapters| adapters.targets.contains(&target))
    }

    /// Checks it against the model.
    pub(super) fn check(&self, architecture: &Architecture) -> Result<(), RequestError> {
        let rank = self.adapters.as_ref().map_or(1, |adapters| adapters.r);
        let target_length = self.target_length.unwrap_or(1);
        for (field, found) in [
            ("batch", self.batch),
            ("rows per sample", self.rows_per_sample),
            ("rows", self.batch.saturating_mul(self.rows_per_sample)),
            ("length", self.length),
            ("target length", target_length),
            ("adapters", rank),
        ] {
            if !(1..=EXTENT_MOST).contains(&found) {
                return Err(RequestError::OutOfRange { field, found });
            }
        }
        let positions = architecture.positions;
        if positions > 0 && self.length > positions {
            return Err(RequestError::TooLong { found: self.length, positions });
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
    let has = |target: &&Target| architecture.linears().any(|(_, linear)| linear.target == **target);
    targets.iter().find(|target| !has(target)).map_or(Ok(()), |it| Err(RequestError::NoSuchLinear(it.name())))
}
