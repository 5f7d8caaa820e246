//! Saved LoRA adapters and heads: loaded from a checkpoint's PEFT files into a fresh base model.

use std::path::Path;

use burn::tensor::backend::Backend;
use traintrue_protocol::plan::Plan;

use crate::checkpoint::{
    ADAPTER, AdapterConfig, AdapterFile, CheckpointError, Content, NamedTensor, to_peft,
};
use crate::model::{Model, Parameters, adapter_scale};

/// The parts of adapters.
pub struct AdapterParts<B: Backend> {
    /// What is done to a fresh adapter, whose second matrix is zero. Nothing: training begins at the base model.
    pub fresh: fn(&mut Parameters<B>, &Plan),
    /// Loads a saved adapter and its heads into a model of the same plan. The error names the tensor.
    pub load: fn(&mut Model, &mut Parameters<B>, &AdapterFile, &Plan) -> Result<(), String>,
}

impl<B: Backend> Default for AdapterParts<B> {
    fn default() -> Self {
        Self { fresh: |_, _| (), load: load_all }
    }
}

/// The adapter tensors and heads under PEFT's names.
pub fn adapter_tensors<B: Backend>(parameters: &Parameters<B>) -> Vec<NamedTensor> {
    parameters.0.iter().filter(|it| it.group != "base").map(|it| to_peft(&NamedTensor::of(it))).collect()
}

/// The saved adapter of a checkpoint.
pub fn adapter_file(content: &Content, path: &Path) -> Result<AdapterFile, CheckpointError> {
    let mismatch = |problem: String| CheckpointError::Mismatch { path: path.to_owned(), problem };
    let config = content
        .adapter_config
        .clone()
        .ok_or_else(|| mismatch("adapter_config.json is missing".to_owned()))?;
    let config: AdapterConfig =
        serde_json::from_value(config).map_err(|error| mismatch(format!("adapter_config.json: {error}")))?;
    let tensors = content.tensors.get(ADAPTER).ok_or_else(|| mismatch(format!("{ADAPTER} is missing")))?;
    Ok(AdapterFile::from_peft(config, tensors))
}

/// Loads every adapter and head tensor; one that is missing or has another shape is an error. The scale comes from the
/// file.
pub fn load_all<B: Backend>(
    model: &mut Model,
    parameters: &mut Parameters<B>,
    file: &AdapterFile,
    _plan: &Plan,
) -> Result<(), String> {
    for parameter in parameters.0.iter_mut().filter(|parameter| parameter.group != "base") {
        let name = &parameter.name;
        let saved = file.find(name).ok_or_else(|| format!("{ADAPTER}: tensor {name} is missing"))?;
        if saved.shape != parameter.shape {
            let (found, expected) = (&saved.shape, &parameter.shape);
            return Err(format!("{ADAPTER}: tensor {name} has shape {found:?}, expected {expected:?}"));
        }
        parameter.set(saved.values.clone());
    }
    model.adapter_scale = adapter_scale(&file.config.adapters());
    Ok(())
}
