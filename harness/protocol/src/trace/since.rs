//! What a recorder sees between two updates of an optimizer of a loop that was told no plan.
//!
//! A recorder only observes; the judge decides. A field that it did not measure is absent.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::number::Number;

/// What happened since an optimizer's previous update. The counts are of this optimizer alone.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Since {
    /// Micro-batches whose backward reached a parameter of this optimizer.
    pub micro_batches: u64,
    /// Of these, the micro-batches whose gradients were cleared before any optimizer stepped with them. Micro-batches whose
    /// backward value is not finite are not counted.
    #[serde(default)]
    pub unused: u64,
    /// Whether an epoch of a loader ended or began inside this window or at its end.
    #[serde(default)]
    pub epoch_ended: bool,
    /// Calls of `clip_grad_norm_` and `clip_grad_value_` on parameters of this optimizer, in order.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub clips: Vec<ClipCall>,
    /// The gradients' norm just before the first clip, or before the step, divided by their norm right after the last
    /// backward. 1 if nothing changed the gradients in between.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rescaled: Option<Number>,
    /// The schedulers on this optimizer.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub schedules: Vec<Scheduled>,
    /// The rates that the declared schedule gives for this update, one per optimizer group. Absent where no schedule is
    /// declared, and after the end of a declared list.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub declared: Vec<Number>,
    /// Values that the global random generator was seeded with. A seed that is undone before the next training forward
    /// (`fork_rng`, `set_rng_state`) is not listed.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub seeds: Vec<u64>,
    /// The last of them, if an evaluation's forward followed it: the evaluation set it for itself.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub evaluation_seed: Option<u64>,
    /// Evaluations.
    #[serde(default)]
    pub evaluations: u64,
    /// Whether the parameters at the first training forward after an evaluation differ from what the last update before the
    /// evaluation left. Absent without an evaluation, and where the loop also changes parameters by itself at other places.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub parameters_changed: Option<bool>,
    /// Whether the evaluation itself ran on other parameters than the last update left, as with averaged (EMA) weights.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub swapped: Option<bool>,
    /// Whether a state dict was loaded into the model or the optimizer.
    #[serde(default)]
    pub loaded: bool,
    /// Whether this optimizer is a new object of the same class over the same parameters as an earlier one that had stepped,
    /// and no state was loaded into it. Only on its first update.
    #[serde(default)]
    pub remade: bool,
    /// Whether the step was given a closure.
    #[serde(default)]
    pub closure: bool,
    /// How often an average of the weights that the script keeps has moved between the micro-batches of this update's
    /// window. Absent where there is no average.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub averaged: Option<u64>,
}

/// One call that clips gradients.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct ClipCall {
    /// The norm, or with `by_value` the absolute value, above which gradients are reduced.
    pub limit: Number,
    /// The norm that the call saw.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm: Option<Number>,
    /// The p of that norm; absent is 2.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub norm_type: Option<Number>,
    /// Micro-batches in the gradients at the call.
    pub held: u64,
    /// Whether an optimizer step had already used these gradients. The call is then listed in the next update's `since`.
    #[serde(default)]
    pub used: bool,
    /// Whether a GradScaler had not yet unscaled the gradients.
    #[serde(default)]
    pub scaled: bool,
    /// Whether each value is clipped by itself (`clip_grad_value_`).
    #[serde(default)]
    pub by_value: bool,
    /// Whether the call covered all parameters of this optimizer that have gradients.
    #[serde(default)]
    pub whole: bool,
}

/// A learning-rate scheduler on an optimizer, at one of its updates.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
pub struct Scheduled {
    /// Its class, such as `CosineAnnealingLR`.
    pub name: String,
    /// Calls of `step()` until this update; the constructor's own first step is not counted.
    pub steps: u64,
    /// Calls of `step()` until its end, as the script gave it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub length: Option<u64>,
    /// The argument that gave the length: `T_max`, `total_steps`, `num_training_steps`, `total_iters`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub argument: Option<String>,
    /// Steps of its warm-up.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub warmup: Option<u64>,
}

/// How many modules were in which mode, of those that act only in training: dropout with p above 0, and batch norms whose
/// parameters train.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Modes {
    /// Modules in training mode.
    pub training: u64,
    /// Modules in evaluation mode.
    pub evaluation: u64,
    /// Whether a module with parameters that train is in training mode. Then the script put single modules into evaluation
    /// mode, and not the model.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub model: Option<bool>,
    /// Batch norms without a parameter that trains that the script had put into evaluation mode by themselves, and that are
    /// in training mode again: their running statistics move.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub drifting: Option<u64>,
}

/// Trainable tensors that never received a gradient.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Silent {
    /// How many.
    pub count: u64,
    /// Of so many that required one.
    pub of: u64,
    /// The names of the first.
    pub names: Vec<String>,
}

/// Segments under activation checkpointing that a backward pass has repeated.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
pub struct Recomputed {
    /// How many.
    pub repeated: u64,
    /// Of these, those that began with another random state and draw from it, or gave other values.
    pub differ: u64,
}

impl Modes {
    /// Modules in either mode.
    pub fn all(&self) -> u64 {
        self.training.saturating_add(self.evaluation)
    }

    /// Whether there are modules of this kind, and all of them are in evaluation mode because the model is.
    pub fn all_off(&self) -> bool {
        self.training == 0 && self.evaluation > 0 && self.model != Some(true)
    }
}
