//! A training loop on candle, as one of its users writes it, as a trainer of traintrue.
//!
//! ```text
//! cargo build --release --manifest-path harness/trainers/candle/Cargo.toml --target-dir target
//! traintrue run --trainer target/release/traintrue-candle
//! ```
//!
//! Model, gradients, optimizer and the file of the weights are candle's: `VarMap`, `GradStore`, `candle_nn::AdamW`,
//! `VarMap::save`. What candle leaves to its user is written here: order, padding, accumulation, clipping, schedule, a
//! seeded random stream. Where there is more than one way to write it, [`Parts`] says which; each program in `src/` is one.

mod checkpoint;
mod data;
mod model;
mod optimizer;
mod own_adamw;
mod probe;
mod random;
mod schedule;
mod seen;
mod training;
mod window;

use std::collections::BTreeMap;

use candle_core::Tensor;
use traintrue_protocol::vocabulary::Capability;
use traintrue_protocol::{Plan, Recorder, Trainer, TrainerError};

/// Tensors by name: no sum and no digest depends on the order of a hash map.
type Tensors = BTreeMap<String, Tensor>;

/// Whose AdamW moves the weights, and what a checkpoint holds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Adam {
    /// candle's. Its moments are private, so a checkpoint is the weights and the place in the data.
    #[default]
    Candle,
    /// The same arithmetic with its moments in reach: a checkpoint has them, and the open window.
    Own,
}

/// Where initial weights and dropout's masks come from.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Random {
    /// A generator that is seeded by the plan.
    #[default]
    Seeded,
    /// candle's own, which on the CPU has no seed.
    Candle,
}

/// How a layer is normalised.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub enum Norm {
    /// `candle_nn::ops::layer_norm_slow`.
    #[default]
    Slow,
    /// `candle_nn::LayerNorm`.
    Module,
}

/// What the loop is made of.
#[derive(Clone, Copy, Debug, Default)]
pub struct Parts {
    /// The optimizer.
    pub adam: Adam,
    /// Random numbers.
    pub random: Random,
    /// Layer norm.
    pub norm: Norm,
}

/// The trainer.
#[derive(Debug)]
pub struct Candle(pub Parts);

impl Trainer for Candle {
    fn name(&self) -> String {
        let Parts { adam, random, norm } = self.0;
        let mut name = "candle 0.11.1".to_owned();
        for (differs, words) in [
            (adam == Adam::Own, ", its own AdamW"),
            (random == Random::Candle, ", unseeded"),
            (norm == Norm::Module, ", candle_nn::LayerNorm"),
        ] {
            name.push_str(if differs { words } else { "" });
        }
        name
    }

    fn capabilities(&self) -> &[Capability] {
        &[
            Capability::Resume,
            Capability::Evaluation,
            Capability::Contract,
            Capability::World,
            Capability::Probes,
            Capability::Causal,
        ]
    }

    fn run(&mut self, plan: &Plan, recorder: &mut Recorder) -> Result<(), TrainerError> {
        let contract = plan.contract.over(self.contract());
        training::Training::begin(self.0, plan, contract, recorder)?.train(recorder)
    }
}
