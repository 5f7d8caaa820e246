//! AdamW in two groups: matrices decay, vectors do not.

use std::collections::BTreeMap;

use candle_core::backprop::GradStore;
use candle_core::{Result, Var};
use candle_nn::{AdamW, Optimizer as _, ParamsAdamW};
use traintrue_protocol::plan;

use crate::own_adamw::OwnAdamW;
use crate::{Adam, Tensors};

/// candle's AdamW, or ours.
pub enum Optimizer {
    /// One a group: candle's has one decay for all that it holds.
    Candle([AdamW; 2]),
    Own(OwnAdamW),
}

impl Optimizer {
    /// An optimizer without a past.
    pub fn new(adam: Adam, settings: &plan::Optimizer, named: &BTreeMap<String, Var>) -> Result<Self> {
        let params = |decay| ParamsAdamW {
            lr: settings.lr,
            beta1: settings.betas[0],
            beta2: settings.betas[1],
            eps: settings.eps,
            weight_decay: decay,
        };
        if adam == Adam::Own {
            return OwnAdamW::new([settings.decay, 0.0].map(params), named).map(Self::Own);
        }
        let (matrices, vectors) = named.values().cloned().partition(|var| var.rank() == 2);
        Ok(Self::Candle([AdamW::new(matrices, params(settings.decay))?, AdamW::new(vectors, params(0.0))?]))
    }

    /// Update `step`, the first being 1. A variable without a gradient stays as it is, without a word.
    pub fn step(
        &mut self,
        step: u64,
        lr: f64,
        named: &BTreeMap<String, Var>,
        gradients: &Tensors,
    ) -> Result<()> {
        match self {
            Self::Own(own) => own.step(step, lr, named, gradients),
            Self::Candle(groups) => {
                let mut given = GradStore::default();
                for (name, gradient) in gradients {
                    given.insert(&named[name], gradient.clone());
                }
                for group in groups {
                    group.set_learning_rate(lr);
                    group.step(&given)?;
                }
                Ok(())
            }
        }
    }
}
