//! The content of a checkpoint: named tensors by file, and the trainer's record.

use std::collections::BTreeMap;

use burn::tensor::backend::Backend;
use safetensors::tensor::{Dtype, SafeTensorError, SafeTensors, TensorView};
use serde::{Deserialize, Serialize};
use traintrue_protocol::trace::event::Cursor;

use crate::data::Counts;
use crate::model::Parameter;
use crate::rng::Position;

/// One tensor of f32 values in row-major order.
#[derive(Clone, Debug, PartialEq)]
pub struct NamedTensor {
    /// The name within the file.
    pub name: String,
    /// The size of each dimension.
    pub shape: Vec<usize>,
    /// One per element.
    pub values: Vec<f32>,
}

impl NamedTensor {
    /// A copy of a parameter.
    pub fn of<B: Backend>(parameter: &Parameter<B>) -> Self {
        Self { name: parameter.name.clone(), shape: parameter.shape.clone(), values: parameter.values() }
    }
}

/// Everything but tensors that the next update depends on.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TrainerRecord {
    /// The seed of the plan.
    pub seed: u64,
    /// Updates done.
    pub step: u64,
    /// Steps that the schedule has taken.
    pub schedule_step: u64,
    /// The next micro-batch, at the plan's own batch size.
    pub cursor: Cursor,
    /// The epoch whose order the sampler draws.
    pub sampler_epoch: u64,
    /// The position of dropout's random stream.
    pub rng: Position,
    /// The counts of the open window. Its gradients have a file of their own.
    pub window: WindowRecord,
    /// The best evaluation so far.
    pub best: Option<f64>,
    /// Updates per tensor that the optimizer holds, by name.
    pub optimizer_updates: BTreeMap<String, u64>,
}

/// The counts of an open window.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct WindowRecord {
    /// Counts of the micro-batches so far.
    pub counts: Counts,
    /// The counts that the window will have when it closes.
    pub totals: Counts,
}

/// The content of a checkpoint.
#[derive(Clone, Debug)]
pub struct Content {
    /// Safetensors files by name.
    pub tensors: BTreeMap<String, Vec<NamedTensor>>,
    /// Everything but tensors.
    pub record: TrainerRecord,
    /// PEFT's `adapter_config.json`, where there are adapters.
    pub adapter_config: Option<serde_json::Value>,
}

/// The bytes of a safetensors file.
pub fn to_safetensors(tensors: &[NamedTensor]) -> Result<Vec<u8>, SafeTensorError> {
    let bytes: Vec<Vec<u8>> =
        tensors.iter().map(|tensor| tensor.values.iter().flat_map(|x| x.to_le_bytes()).collect()).collect();
    let views: Result<Vec<(&str, TensorView)>, SafeTensorError> = tensors
        .iter()
        .zip(&bytes)
        .map(|(tensor, bytes)| {
            Ok((tensor.name.as_str(), TensorView::new(Dtype::F32, tensor.shape.clone(), bytes)?))
        })
        .collect();
    safetensors::serialize(views?, None)
}

/// The tensors of a safetensors file, by name. Fails where the file is cut short, malformed, or not f32.
pub fn from_safetensors(bytes: &[u8]) -> Result<Vec<NamedTensor>, String> {
    let file = SafeTensors::deserialize(bytes).map_err(|error| format!("not a safetensors file: {error}"))?;
    let mut tensors = Vec::new();
    for (name, view) in file.tensors() {
        if view.dtype() != Dtype::F32 {
            return Err(format!("tensor {name} is {:?}, expected F32", view.dtype()));
        }
        let values =
            view.data().chunks_exact(4).map(|x| f32::from_le_bytes([x[0], x[1], x[2], x[3]])).collect();
        tensors.push(NamedTensor { name, shape: view.shape().to_vec(), values });
    }
    Ok(tensors)
}
