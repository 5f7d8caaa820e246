//! The contract: the conventions a trainer declares once.
//!
//! Trainers differ legitimately. A verdict is relative to the contract, and every report prints the contract
//! beside the verdict, so that no bug is declared away unseen.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};
use serde_json::Value;

use crate::version::SCHEMA;
use crate::vocabulary::Capability;

/// What happens to a window that is still open when an epoch ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Tail {
    /// It becomes an update of its own, smaller than the others.
    Flush,
    /// Its gradients are thrown away.
    Drop,
    /// It stays open, and the next epoch's first micro-batches complete it.
    Carry,
}

/// What the summed loss of a window is divided by.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Normaliser {
    /// The supervised tokens of the whole window: a window equals one large batch.
    Tokens,
    /// Each micro-batch's own mean, averaged over the window's micro-batches.
    MicroBatches,
}

/// Whether the gradient of a window is a mean or a sum over what the normaliser counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Gradients {
    /// Divided by what the normaliser counts.
    Mean,
    /// Not divided.
    Sum,
}

/// The learning rate of the first update under a warm-up.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum FirstLr {
    /// Update `s` uses the multiplier of `s - 1`: the first update of a warm-up moves nothing (PyTorch's order).
    Zero,
    /// Update `s` uses the multiplier of `s`.
    Nonzero,
}

/// What the `targets` of a micro-batch count, and with them the weight of the loss `lm`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Targets {
    /// Each token of a sample but the first, which nothing predicts.
    #[default]
    NextTokens,
    /// Each token of a sample.
    Tokens,
    /// Each sample that has a token: one label per sample.
    Samples,
}

impl Targets {
    /// Whether it is what a contract without the field says.
    fn is_default(&self) -> bool {
        *self == Self::default()
    }
}

/// The declared conventions of one trainer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Contract {
    /// The window still open at an epoch's end.
    pub tail: Tail,
    /// What a window's loss is divided by.
    pub normaliser: Normaliser,
    /// Mean or sum.
    pub gradients: Gradients,
    /// The first learning rate under warm-up.
    pub first_lr: FirstLr,
    /// Rows that one sample takes in one forward: 3 where anchor, positive and negative are concatenated.
    pub rows_per_sample: u64,
    /// What the trace's `targets` count.
    #[serde(default, skip_serializing_if = "Targets::is_default")]
    pub targets: Targets,
    /// Whether the same plan gives the same bits twice on one machine.
    pub deterministic: bool,
}

impl Default for Contract {
    fn default() -> Self {
        Self {
            tail: Tail::Flush,
            normaliser: Normaliser::Tokens,
            gradients: Gradients::Mean,
            first_lr: FirstLr::Nonzero,
            rows_per_sample: 1,
            targets: Targets::default(),
            deterministic: true,
        }
    }
}

impl Contract {
    /// Its conventions in words, always in this order. The usual targets are not named.
    fn words(&self) -> [String; 6] {
        let tail = match self.tail {
            Tail::Flush => "tail flush",
            Tail::Drop => "tail drop",
            Tail::Carry => "tail carry",
        };
        let normaliser = match self.normaliser {
            Normaliser::Tokens => "tokens",
            Normaliser::MicroBatches => "micro-batches",
        };
        let gradients = match self.gradients {
            Gradients::Mean => "mean",
            Gradients::Sum => "sum",
        };
        let first = match self.first_lr {
            FirstLr::Zero => "first lr zero",
            FirstLr::Nonzero => "first lr nonzero",
        };
        let rows = if self.rows_per_sample == 1 { "row" } else { "rows" };
        let targets = match self.targets {
            Targets::NextTokens => "",
            Targets::Tokens => "targets are all tokens",
            Targets::Samples => "one target a sample",
        };
        let repeat = if self.deterministic { "deterministic" } else { "not deterministic" };
        [
            tail.to_owned(),
            format!("{gradients} over {normaliser}"),
            first.to_owned(),
            format!("{} {rows} a sample", self.rows_per_sample),
            targets.to_owned(),
            repeat.to_owned(),
        ]
    }

    /// The conventions that are not those of `other`, in words.
    pub fn unlike(&self, other: &Self) -> String {
        let pairs = self.words().into_iter().zip(other.words());
        let others = pairs.filter(|(own, others)| own != others).map(|(own, _)| own);
        let named = others.map(|own| if own.is_empty() { "targets are next tokens".to_owned() } else { own });
        named.collect::<Vec<_>>().join(", ")
    }
}

impl fmt::Display for Contract {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let named = self.words().into_iter().filter(|words| !words.is_empty());
        f.write_str(&named.collect::<Vec<_>>().join(", "))
    }
}

/// The answer of a trainer to `describe`: one line of JSON.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Description {
    /// The schema of plan and trace that the trainer speaks.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: u32,
    /// Name and version.
    pub trainer: String,
    /// What the trainer can do; a scenario that needs more is not judged.
    pub capabilities: Vec<Capability>,
    /// The conventions the verdicts are relative to.
    pub contract: Contract,
    /// Whether `CMD serve` is there: a process that imports what it needs, trains nothing, and forks once per run.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub serve: bool,
}

/// The conventions a plan asks for in place of the trainer's own; what a trainer cannot change it leaves,
/// and declares in its `run` line what it really did.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Asked {
    /// In place of the contract's `tail`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub tail: Option<Tail>,
    /// In place of its `normaliser`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub normaliser: Option<Normaliser>,
    /// In place of its `gradients`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub gradients: Option<Gradients>,
    /// In place of its `first_lr`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub first_lr: Option<FirstLr>,
}

/// The conventions that a user states for a trainer whose own words lack them or are wrong. A statement is printed with
/// every verdict.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Stated {
    /// In place of the contract's `tail`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub tail: Option<Tail>,
    /// In place of its `normaliser`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub normaliser: Option<Normaliser>,
    /// In place of its `gradients`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub gradients: Option<Gradients>,
    /// In place of its `first_lr`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub first_lr: Option<FirstLr>,
    /// In place of its `rows_per_sample`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub rows_per_sample: Option<u64>,
    /// In place of its `targets`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub targets: Option<Targets>,
    /// In place of its `deterministic`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub deterministic: Option<bool>,
}

impl Stated {
    /// Lays it over the `contract` of a description, or of the first line of a trace, where the trainer's own words stay as
    /// `declared`. What the line's plan asks for is left as the trainer says it: it was told so.
    pub fn lay_over(&self, said: &mut Value) {
        let (Ok(Value::Object(stated)), Value::Object(said)) = (serde_json::to_value(self), said) else {
            return;
        };
        let asked = said.get("plan").and_then(|plan| plan.get("contract")).cloned().unwrap_or_default();
        let declared = said.get("contract").cloned().unwrap_or_default();
        let mut contract = declared.as_object().cloned().unwrap_or_default();
        contract.extend(stated.into_iter().filter(|(name, _)| asked.get(name).is_none_or(Value::is_null)));
        said.insert("contract".to_owned(), Value::Object(contract));
        said.insert("declared".to_owned(), declared);
    }
}

impl fmt::Display for Stated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Ok(Value::Object(stated)) = serde_json::to_value(self) else { return Ok(()) };
        let word = |value: Value| value.as_str().map_or_else(|| value.to_string(), str::to_owned);
        let words = stated.into_iter().map(|(name, value)| format!("{name} {}", word(value)));
        f.write_str(&words.collect::<Vec<_>>().join(", "))
    }
}

impl Asked {
    /// The contract `own`, with what was asked for in its place.
    pub fn over(&self, own: Contract) -> Contract {
        Contract {
            tail: self.tail.unwrap_or(own.tail),
            normaliser: self.normaliser.unwrap_or(own.normaliser),
            gradients: self.gradients.unwrap_or(own.gradients),
            first_lr: self.first_lr.unwrap_or(own.first_lr),
            ..own
        }
    }
}
