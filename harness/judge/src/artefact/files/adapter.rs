//! A LoRA adapter as PEFT saves it: `adapter_config.json`, and the meaning of the names in `adapter_model.safetensors`.

use std::path::{Path, PathBuf};

use regex::Regex;
use serde::Deserialize;
use serde_json::{Map, Value};
use traintrue_logs::json;

use super::error::ArtefactError;
use super::tensors::TensorFile;

/// PEFT puts this before the name of every module.
const PREFIX: &str = "base_model.model.";

/// Last parts of the names of embedding layers. PEFT saves these layers too if they are adapted or the vocabulary was
/// resized.
const EMBEDDINGS: [&str; 6] = ["embed_tokens", "lm_head", "wte", "word_embeddings", "embed_in", "embed_out"];

/// A configuration and its tensors.
#[derive(Clone, Debug)]
pub struct Adapter {
    /// The configuration.
    pub config: AdapterConfig,
    /// The tensors.
    pub file: TensorFile,
}

/// The fields of `adapter_config.json` that determine the tensors. Unknown fields are ignored: every PEFT release adds
/// some.
#[derive(Clone, Debug, Deserialize)]
pub struct AdapterConfig {
    /// The method: `LORA`.
    pub peft_type: String,
    /// The kind of model, such as `SEQ_CLS`. Classification adds heads to `modules_to_save`.
    #[serde(default)]
    pub task_type: Option<String>,
    /// Rank.
    #[serde(default)]
    pub r: Option<u64>,
    /// The delta is scaled by `lora_alpha / r`.
    #[serde(default)]
    pub lora_alpha: Option<f64>,
    /// Whether the scale is `lora_alpha / sqrt(r)` instead (rsLoRA).
    #[serde(default)]
    pub use_rslora: bool,
    /// Whether there is a magnitude beside each pair (DoRA).
    #[serde(default)]
    pub use_dora: bool,
    /// The adapted modules.
    #[serde(default)]
    pub target_modules: Option<Targets>,
    /// Adapted parameters that are not modules.
    #[serde(default)]
    pub target_parameters: Option<Value>,
    /// Modules that are trained and saved whole.
    #[serde(default)]
    pub modules_to_save: Option<Vec<String>>,
    /// Ranks of modules that have their own.
    #[serde(default)]
    pub rank_pattern: Option<Map<String, Value>>,
    /// `lora_alpha` of modules that have their own.
    #[serde(default)]
    pub alpha_pattern: Option<Map<String, Value>>,
    /// Which biases are trained: `none`, `all`, `lora_only`.
    #[serde(default)]
    pub bias: Option<String>,
    /// Tokens whose embeddings are trained.
    #[serde(default)]
    pub trainable_token_indices: Option<Value>,
}

/// The adapted modules: their names' last parts, or a pattern.
#[derive(Clone, Debug, Deserialize)]
#[serde(untagged)]
pub enum Targets {
    /// A regular expression over the whole name, or `all-linear`.
    Pattern(String),
    /// Names.
    Names(Vec<String>),
}

/// What a tensor of an adapter is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Part {
    /// The matrix that reads the input, `[r, in]`.
    A,
    /// The matrix that writes the output, `[out, r]`.
    B,
    /// The magnitude of DoRA, `[out]`.
    Magnitude,
    /// A bias of the adapter itself.
    AdapterBias,
    /// A weight of the base model that has an adapter.
    Base,
    /// Anything else.
    Other,
}

const PARTS: [(&str, Part); 8] = [
    (".lora_A.weight", Part::A),
    (".lora_B.weight", Part::B),
    (".lora_embedding_A", Part::A),
    (".lora_embedding_B", Part::B),
    (".lora_magnitude_vector", Part::Magnitude),
    (".lora_B.bias", Part::AdapterBias),
    (".base_layer.weight", Part::Base),
    (".base_layer.bias", Part::Base),
];

/// The module that a tensor belongs to, as the model names it, and the tensor's part in it.
pub fn module_of(tensor: &str) -> (&str, Part) {
    let name = tensor.strip_prefix(PREFIX).unwrap_or(tensor);
    let known = PARTS.iter().find_map(|&(end, part)| Some((name.strip_suffix(end)?, part)));
    known.unwrap_or_else(|| (name.rsplit_once('.').map_or(name, |(module, _)| module), Part::Other))
}

/// Whether a module has this name or is inside a module of this name.
fn within(module: &str, name: &str) -> bool {
    let parts: Vec<&str> = module.split('.').collect();
    let wanted: Vec<&str> = name.split('.').collect();
    parts.windows(wanted.len().max(1)).any(|window| window == wanted)
}

impl Adapter {
    /// Reads both files. Fails if one of them cannot be read.
    pub fn read(config: &Path, tensors: &Path, digests: bool) -> Result<Self, ArtefactError> {
        Ok(Self { config: AdapterConfig::read(config)?, file: TensorFile::read(tensors, digests)? })
    }

    /// The adapted modules, each once, in order.
    pub fn modules(&self) -> Vec<&str> {
        let adapted = |part| matches!(part, Part::A | Part::B | Part::Magnitude);
        let modules = self.file.tensors.iter().map(|tensor| module_of(&tensor.name));
        let mut modules: Vec<&str> =
            modules.filter(|(_, part)| adapted(*part)).map(|(module, _)| module).collect();
        modules.sort_unstable();
        modules.dedup();
        modules
    }

    /// Whether the tensor belongs to a module of `modules_to_save`.
    pub fn is_saved_whole(&self, tensor: &str) -> bool {
        self.config.heads().iter().any(|head| self.config.saves(head, tensor))
    }

    /// Where the file is.
    pub fn path(&self) -> &PathBuf {
        &self.file.path
    }
}

impl AdapterConfig {
    /// Reads a file. Fails if it is not an adapter's configuration.
    pub fn read(path: &Path) -> Result<Self, ArtefactError> {
        Ok(json::parse(path, &json::read_text(path)?)?)
    }

    /// The modules of `modules_to_save`.
    pub fn heads(&self) -> &[String] {
        self.modules_to_save.as_deref().unwrap_or_default()
    }

    /// The ranks that a module may have: those of the patterns that match it, otherwise the common one.
    pub fn ranks(&self, module: &str) -> Vec<u64> {
        let patterns = self.rank_pattern.iter().flatten();
        let own: Vec<u64> = patterns
            .filter(|(pattern, _)| names_end(pattern, module))
            .filter_map(|(_, rank)| rank.as_u64())
            .collect();
        if own.is_empty() { self.r.into_iter().collect() } else { own }
    }

    /// Whether a tensor belongs to the module of `modules_to_save` with this name.
    pub fn saves(&self, head: &str, tensor: &str) -> bool {
        let (module, part) = module_of(tensor);
        part == Part::Other && tensor.starts_with(PREFIX) && within(module, head)
    }

    /// Whether the configuration explains a tensor.
    pub fn explains(&self, tensor: &str) -> Explained {
        let (module, part) = module_of(tensor);
        let last = module.rsplit('.').next().unwrap_or_default();
        let bias = tensor.ends_with(".bias") && self.bias.as_deref().is_some_and(|it| it != "none");
        let embedding = EMBEDDINGS.contains(&last);
        let tokens = tensor.contains("trainable_tokens") && self.trainable_token_indices.is_some();
        match part {
            _ if !tensor.starts_with(PREFIX) => Explained::No,
            Part::A | Part::B | Part::AdapterBias => self.targets(module),
            Part::Magnitude if self.use_dora => self.targets(module),
            Part::Magnitude => Explained::No,
            Part::Base if embedding || bias => Explained::Yes,
            Part::Other if bias || embedding || tokens => Explained::Yes,
            Part::Other if self.heads().iter().any(|head| self.saves(head, tensor)) => Explained::Yes,
            Part::Base | Part::Other => Explained::No,
        }
    }

    fn targets(&self, module: &str) -> Explained {
        match &self.target_modules {
            _ if self.target_parameters.is_some() => Explained::Unknown,
            None => Explained::No,
            Some(Targets::Names(names)) => {
                Explained::when(names.iter().any(|name| ends_with_name(module, name)))
            }
            Some(Targets::Pattern(pattern)) if pattern == "all-linear" => Explained::Yes,
            Some(Targets::Pattern(pattern)) => match Regex::new(&format!("^(?:{pattern})$")) {
                Ok(pattern) => Explained::when(pattern.is_match(module)),
                // Python's regular expressions have features that this library's do not have.
                Err(_) => Explained::Unknown,
            },
        }
    }
}

/// Whether a configuration explains a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Explained {
    /// It does.
    Yes,
    /// It does not.
    No,
    /// The configuration uses a pattern that cannot be evaluated here.
    Unknown,
}

impl Explained {
    fn when(it: bool) -> Self {
        if it { Self::Yes } else { Self::No }
    }
}

/// Whether a module's name is this name, or ends with it after a dot.
pub(crate) fn ends_with_name(module: &str, name: &str) -> bool {
    module.strip_suffix(name).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
}

/// Whether the end of a module's name matches a pattern, by PEFT's rule for `rank_pattern` and `alpha_pattern`.
pub(crate) fn names_end(pattern: &str, module: &str) -> bool {
    Regex::new(&format!(r"^(?:.*\.)?(?:{pattern})$")).is_ok_and(|pattern| pattern.is_match(module))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::json;

    use super::*;

    #[rstest]
    #[case("base_model.model.layers.0.q_proj.lora_A.weight", "layers.0.q_proj", Part::A)]
    #[case("base_model.model.embed_tokens.lora_embedding_B", "embed_tokens", Part::B)]
    #[case("base_model.model.layers.0.q_proj.lora_magnitude_vector", "layers.0.q_proj", Part::Magnitude)]
    #[case("base_model.model.lm_head.base_layer.weight", "lm_head", Part::Base)]
    #[case("base_model.model.score.weight", "score", Part::Other)]
    #[case("weight", "weight", Part::Other)]
    fn a_name_says_module_and_part(#[case] tensor: &str, #[case] module: &str, #[case] part: Part) {
        assert_eq!(module_of(tensor), (module, part));
    }

    fn config(fields: Value) -> AdapterConfig {
        let mut all = json!({"peft_type": "LORA", "r": 4, "lora_alpha": 8});
        all.as_object_mut().unwrap().extend(fields.as_object().unwrap().clone());
        serde_json::from_value(all).unwrap()
    }

    #[rstest]
    #[case::name(json!({"target_modules": ["q"]}), "l.0.q.lora_A.weight", Explained::Yes)]
    #[case::other(json!({"target_modules": ["q"]}), "l.0.eq.lora_A.weight", Explained::No)]
    #[case::whole_name(json!({"target_modules": ["l.0.q"]}), "l.0.q.lora_B.weight", Explained::Yes)]
    #[case::pattern(json!({"target_modules": r"l\.\d+\.q"}), "l.0.q.lora_B.weight", Explained::Yes)]
    #[case::not_all_of_it(json!({"target_modules": r"\d+\.q"}), "l.0.q.lora_B.weight", Explained::No)]
    #[case::all(json!({"target_modules": "all-linear"}), "l.0.q.lora_B.weight", Explained::Yes)]
    #[case::look_behind(json!({"target_modules": r".*(?<!k)\.q"}), "l.0.q.lora_B.weight", Explained::Unknown)]
    #[case::parameters(json!({"target_parameters": ["experts.up"]}), "l.experts.lora_A.weight", Explained::Unknown)]
    #[case::head(json!({"modules_to_save": ["score"]}), "score.weight", Explained::Yes)]
    #[case::within_head(json!({"modules_to_save": ["head"]}), "head.dense.weight", Explained::Yes)]
    #[case::no_head(json!({"modules_to_save": ["head"]}), "ahead.weight", Explained::No)]
    #[case::magnitude(json!({"target_modules": ["q"]}), "l.0.q.lora_magnitude_vector", Explained::No)]
    #[case::dora(json!({"target_modules": ["q"], "use_dora": true}), "l.0.q.lora_magnitude_vector", Explained::Yes)]
    #[case::bias(json!({"target_modules": ["q"], "bias": "all"}), "l.0.norm.bias", Explained::Yes)]
    #[case::no_bias(json!({"target_modules": ["q"], "bias": "none"}), "l.0.norm.bias", Explained::No)]
    #[case::embedding(json!({"target_modules": ["q"]}), "embed_tokens.weight", Explained::Yes)]
    #[case::adapted_embedding(json!({"target_modules": ["lm_head"]}), "lm_head.base_layer.weight", Explained::Yes)]
    #[case::base(json!({"target_modules": ["q"]}), "l.0.q.base_layer.weight", Explained::No)]
    #[case::adapters_name(json!({"target_modules": ["q"]}), "l.0.q.lora_A.default.weight", Explained::No)]
    fn a_configuration_explains_its_tensors(
        #[case] fields: Value,
        #[case] tensor: &str,
        #[case] expected: Explained,
    ) {
        assert_eq!(config(fields).explains(&format!("{PREFIX}{tensor}")), expected);
    }

    #[test]
    fn a_tensor_without_the_prefix_is_one_that_peft_does_not_load() {
        assert_eq!(config(json!({"target_modules": ["q"]})).explains("l.0.q.lora_A.weight"), Explained::No);
    }

    #[rstest]
    #[case("l.0.q", &[2])]
    #[case("l.1.q", &[4])]
    #[case("q", &[4])]
    #[case("l.7.k", &[16])]
    fn a_module_has_the_rank_of_its_pattern(#[case] module: &str, #[case] ranks: &[u64]) {
        let config = config(json!({"rank_pattern": {"l.0.q": 2, r"l\.\d+\.k": 16}}));
        assert_eq!(config.ranks(module), ranks);
    }

    #[rstest]
    #[case("{}", "missing field `peft_type`")]
    #[case(r#"{"peft_type": "LORA", "r": -1}"#, "r: invalid value: integer `-1`")]
    #[case(
        r#"{"peft_type": "LORA", "modules_to_save": "head"}"#,
        "modules_to_save: invalid type: string \"head\""
    )]
    #[case(r#"{"peft_type": "LORA", "target_modules": 3}"#, "target_modules: data did not match")]
    fn what_is_no_configuration_is_one_clear_error(#[case] text: &str, #[case] message: &str) {
        let error =
            json::parse::<AdapterConfig>(Path::new("adapter_config.json"), text).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}
