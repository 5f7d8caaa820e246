//! The open accumulation window: gradients gathered since the last update, and how they become those of one.

use candle_core::Result;
use serde::{Deserialize, Serialize};
use traintrue_protocol::contract::{Contract, Gradients, Normaliser};
use traintrue_protocol::digest::{Digest, norm};

use crate::Tensors;
use crate::model::values;

/// What was gathered since the last update.
#[derive(Default)]
pub struct Window {
    pub counts: Counts,
    /// Sums.
    pub gradients: Tensors,
}

/// How much was gathered.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub struct Counts {
    pub micro_batches: u64,
    pub targets: u64,
}

impl Window {
    /// What a micro-batch of so many targets is divided by on its own.
    pub fn divisor(contract: &Contract, targets: u64) -> u64 {
        if contract.normaliser == Normaliser::MicroBatches { targets.max(1) } else { 1 }
    }

    /// Adds a micro-batch.
    pub fn add(&mut self, gradients: Tensors, targets: u64) -> Result<()> {
        self.counts.micro_batches += 1;
        self.counts.targets += targets;
        for (name, gradient) in gradients {
            let sum = match self.gradients.get(&name) {
                Some(sum) => (sum + gradient)?,
                None => gradient,
            };
            self.gradients.insert(name, sum);
        }
        Ok(())
    }

    /// The gradients of an update.
    pub fn gathered(&self, contract: &Contract) -> Result<Tensors> {
        let divisor = match (contract.gradients, contract.normaliser) {
            (Gradients::Sum, _) => 1,
            (Gradients::Mean, Normaliser::Tokens) => self.counts.targets.max(1),
            (Gradients::Mean, Normaliser::MicroBatches) => self.counts.micro_batches.max(1),
        };
        scaled(&self.gradients, 1.0 / divisor as f64)
    }

    /// Of the sums, by name.
    pub fn digest(&self) -> Result<String> {
        let mut digest = Digest::new();
        for (name, gradient) in &self.gradients {
            digest = digest.bytes(name.as_bytes()).values(&values(gradient)?);
        }
        Ok(digest.text())
    }
}

fn scaled(gradients: &Tensors, by: f64) -> Result<Tensors> {
    gradients.iter().map(|(name, gradient)| Ok((name.clone(), (gradient * by)?))).collect()
}

/// The L2 norm of all gradients together, summed in f64 and in the order of names: candle has none of its own.
pub fn global_norm(gradients: &Tensors) -> Result<f64> {
    let all = gradients.values().map(values).collect::<Result<Vec<_>>>()?;
    Ok(norm(all.iter().map(Vec::as_slice)))
}

/// The gradients scaled down together where their joint norm is above `most`.
pub fn clipped(gradients: Tensors, norm: f64, most: Option<f64>) -> Result<Tensors> {
    match most.filter(|&most| norm > most) {
        Some(most) => scaled(&gradients, most / norm),
        None => Ok(gradients),
    }
}
