//! What was inside a micro-batch or an evaluation: rows as the model got them, and what dropout did to its units.
//!
//! A trainer writes these for a few micro-batches of each epoch. They are literal, so that the judge can make the rows again
//! from the plan's samples, and say which token is wrong and not only that one is.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::number::Number;

/// One sample's row, as the model got it. Every list but `logits` has one value per position, padding included.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Row {
    /// The sample's id.
    pub sample: u64,
    /// Token ids.
    pub ids: Vec<u32>,
    /// Whether other positions may attend to it: false for padding.
    pub real: Vec<bool>,
    /// The token that its output is trained to predict; null where it is not supervised.
    pub targets: Vec<Option<u32>>,
    /// Per supervised position, in their order: the logit of the target, and the logarithm of the sum of the exponentials of
    /// all logits, as the model gave them. Empty where the trainer does not tell.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub logits: Vec<[Number; 2]>,
}

/// Units whose mask a [`Dropped`] has a digest of.
pub const DIGESTED_UNITS: u64 = 512;

/// What one dropout did to its units in one forward.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Dropped {
    /// Its units.
    pub units: u64,
    /// Units that became 0.
    pub dropped: u64,
    /// What the others were multiplied by.
    pub scale: Number,
    /// Positions that the units belong to.
    pub positions: u64,
    /// Different masks among those of the positions.
    pub masks: u64,
    /// Digest of the mask of the first [`DIGESTED_UNITS`] units, or of all where there are fewer. So micro-batches of two
    /// widths are compared by it, too.
    pub digest: String,
}
