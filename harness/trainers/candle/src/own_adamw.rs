//! candle-nn's AdamW once more, operation by operation, with its moments in reach.

use std::collections::{BTreeMap, HashMap};
use std::path::Path;

use candle_core::{Device, Result, Tensor, Var, safetensors};
use candle_nn::ParamsAdamW;
use traintrue_protocol::digest::Digest;

use crate::Tensors;
use crate::model::values;

/// An optimizer that can be saved.
pub struct OwnAdamW {
    /// Of matrices, and of vectors.
    groups: [ParamsAdamW; 2],
    first: Tensors,
    second: Tensors,
}

impl OwnAdamW {
    /// An optimizer of these variables, without a past.
    pub fn new(groups: [ParamsAdamW; 2], named: &BTreeMap<String, Var>) -> Result<Self> {
        let zeros = || -> Result<Tensors> {
            named.iter().map(|(name, var)| Ok((name.clone(), var.zeros_like()?))).collect()
        };
        Ok(Self { groups, first: zeros()?, second: zeros()? })
    }

    /// Update `step`, the first being 1.
    pub fn step(
        &mut self,
        step: u64,
        lr: f64,
        named: &BTreeMap<String, Var>,
        gradients: &Tensors,
    ) -> Result<()> {
        for (name, gradient) in gradients {
            let var = &named[name];
            let ParamsAdamW { beta1, beta2, eps, weight_decay, .. } =
                self.groups[usize::from(var.rank() != 2)];
            let corrected = |beta: f64| 1.0 / (1.0 - beta.powi(step as i32));
            let first = ((&self.first[name] * beta1)? + (gradient * (1.0 - beta1))?)?;
            let second = ((&self.second[name] * beta2)? + (gradient.sqr()? * (1.0 - beta2))?)?;
            let adjusted = ((&first * corrected(beta1))? / ((&second * corrected(beta2))?.sqrt()? + eps)?)?;
            let decayed = (var.as_tensor() * (1.0 - lr * weight_decay))?;
            var.set(&(decayed - (adjusted * lr)?)?)?;
            self.first.insert(name.clone(), first);
            self.second.insert(name.clone(), second);
        }
        Ok(())
    }

    /// Both moments of a variable.
    pub fn digest(&self, name: &str) -> Result<String> {
        Ok(Digest::new().values(&values(&self.first[name])?).values(&values(&self.second[name])?).text())
    }

    /// Writes both moments of every variable.
    pub fn save(&self, path: &Path) -> Result<()> {
        let prefixed = |prefix: &'static str, moments: &Tensors| {
            let named = moments.iter().map(|(name, moment)| (format!("{prefix}.{name}"), moment.clone()));
            named.collect::<Vec<_>>()
        };
        let both = [prefixed("first", &self.first), prefixed("second", &self.second)].concat();
        safetensors::save(&both.into_iter().collect::<HashMap<_, _>>(), path)
    }

    /// Reads them back. Fails where one is missing.
    pub fn load(&mut self, path: &Path) -> Result<()> {
        let held = safetensors::load(path, &Device::Cpu)?;
        for (prefix, moments) in [("first", &mut self.first), ("second", &mut self.second)] {
            for (name, moment) in moments {
                *moment = tensor(&held, &format!("{prefix}.{name}"))?;
            }
        }
        Ok(())
    }
}

fn tensor(held: &HashMap<String, Tensor>, name: &str) -> Result<Tensor> {
    held.get(name).cloned().ok_or_else(|| candle_core::Error::Msg(format!("{name}: not in the checkpoint")))
}
