//! Everything that a path holds, read.

use std::path::{Path, PathBuf};

use serde::Deserialize;
use traintrue_logs::{Layout, Log, json, trainer_state};

use super::adapter::{Adapter, Part, module_of};
use super::contents::Contents;
use super::error::ArtefactError;
use super::index::Index;
use super::tensors::{Tensor, TensorFile};
use crate::artefact::rules::moves::Role;

/// What a run has left at a path.
pub(crate) struct Left {
    pub(crate) path: PathBuf,
    pub(crate) contents: Contents,
    pub(crate) log: Option<Log>,
    pub(crate) adapter: Option<Adapter>,
    pub(crate) indices: Vec<Index>,
    /// Weights that do not belong to an adapter.
    pub(crate) files: Vec<TensorFile>,
    /// Whether the configuration says that input and output embeddings are one.
    pub(crate) tied: bool,
}

impl Left {
    /// Reads the path. With `digests`, it can be compared with another.
    pub(crate) fn read(path: &Path, layout: &Layout, digests: bool) -> Result<Self, ArtefactError> {
        let contents = Contents::of(path, layout)?;
        let log = match &contents.state {
            Some(state) => Some(trainer_state::read(state, contents.scaled)?),
            None if contents.log => Some(traintrue_logs::read(path, layout)?),
            None => None,
        };
        let adapter = match &contents.adapter {
            Some((config, tensors)) => Some(Adapter::read(config, tensors, digests)?),
            None => None,
        };
        let indices: Vec<Index> =
            contents.indices.iter().map(|path| Index::read(path)).collect::<Result<_, _>>()?;
        // artefact/shards reports a missing shard; the others are judged all the same.
        let shards = indices.iter().flat_map(Index::shards).filter(|path| path.exists());
        let mut paths: Vec<PathBuf> = contents.tensors.iter().cloned().chain(shards).collect();
        paths.sort();
        paths.dedup();
        let tied = contents.config.as_deref().map(tied).transpose()?.unwrap_or(false);
        let file = |path: &PathBuf| TensorFile::read(path, digests || tied);
        let files = paths.iter().map(file).collect::<Result<_, _>>()?;
        Ok(Self { path: path.to_owned(), contents, log, adapter, indices, files, tied })
    }

    /// The name of the run that left it, for findings.
    pub(crate) fn name(&self) -> String {
        self.path
            .file_name()
            .map_or_else(|| self.path.display().to_string(), |it| it.to_string_lossy().into_owned())
    }

    /// All weights that do not belong to an adapter, as one file: two checkpoints may be split into different shards.
    pub(crate) fn weights(&self) -> Option<TensorFile> {
        let path = match self.files.as_slice() {
            [] => return None,
            [one] => one.path.clone(),
            _ => self.path.clone(),
        };
        Some(TensorFile::of(path, self.files.iter().flat_map(|file| file.tensors.clone()).collect()))
    }
}

/// Models of transformers that tie their embeddings where their configuration does not say it.
const TIED_BY_DEFAULT: [&str; 14] = [
    "albert",
    "bart",
    "bert",
    "bloom",
    "distilbert",
    "electra",
    "gemma",
    "gemma2",
    "gpt2",
    "gpt_neo",
    "mbart",
    "opt",
    "roberta",
    "xlm-roberta",
];

/// Whether a model's configuration ties its embeddings. It may lack the field: the default differs by model.
fn tied(config: &Path) -> Result<bool, ArtefactError> {
    #[derive(Deserialize)]
    struct Config {
        #[serde(default)]
        tie_word_embeddings: Option<bool>,
        model_type: Option<String>,
    }
    let config: Config = json::parse(config, &json::read_text(config)?)?;
    let by_default = || config.model_type.is_some_and(|it| TIED_BY_DEFAULT.contains(&it.as_str()));
    Ok(config.tie_word_embeddings.unwrap_or_else(by_default))
}

/// What training does to a tensor of an adapter's file.
pub(crate) fn of_adapter(adapter: &Adapter, tensor: &Tensor) -> Role {
    match module_of(&tensor.name).1 {
        Part::A | Part::B | Part::Magnitude | Part::AdapterBias => Role::Trained,
        Part::Base => Role::Frozen,
        Part::Other if adapter.is_saved_whole(&tensor.name) && tensor.is_float() => Role::Trained,
        Part::Other => Role::Unknown,
    }
}

/// What training does to a tensor of a whole model, which may contain adapters.
pub(crate) fn of_model(tensor: &Tensor) -> Role {
    let has = |part: &str| tensor.name.contains(part);
    if has(".lora_") || has(".modules_to_save.") {
        Role::Trained
    } else if has(".base_layer.") || has(".original_module.") {
        Role::Frozen
    } else {
        Role::Unknown
    }
}
