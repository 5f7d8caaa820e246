//! Adapters and heads in PEFT's file format and names: `adapter_model.safetensors` and `adapter_config.json`, heads under
//! `modules_to_save`. PEFT stores a linear's weight as `[out, in]`, this trainer as `[in, out]`.

use serde::{Deserialize, Serialize};
use traintrue_protocol::plan::{Adapters, Train};

use super::format::NamedTensor;

/// PEFT's name for the file of an adapter's tensors.
pub const ADAPTER: &str = "adapter_model.safetensors";

const PREFIX: &str = "base_model.model.";

/// The fields of PEFT's `adapter_config.json` that a LoRA adapter needs.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct AdapterConfig {
    /// Always `LORA`.
    pub peft_type: String,
    /// Rank.
    pub r: u64,
    /// The delta is scaled by `lora_alpha / r`.
    pub lora_alpha: f64,
    /// Scale by `lora_alpha / sqrt(r)` instead (rsLoRA).
    #[serde(default)]
    pub use_rslora: bool,
    /// The names of the adapted linears.
    pub target_modules: Vec<String>,
    /// Modules saved whole: the heads.
    #[serde(default)]
    pub modules_to_save: Option<Vec<String>>,
    /// Dropout on the adapter's input.
    #[serde(default)]
    pub lora_dropout: f64,
    /// Which biases are trained: `none`.
    #[serde(default = "none")]
    pub bias: String,
    /// Whether the base model stores weights as `[in, out]`.
    #[serde(default)]
    pub fan_in_fan_out: bool,
}

fn none() -> String {
    "none".to_owned()
}

impl AdapterConfig {
    /// The configuration of a plan's adapters and heads.
    pub fn of(adapters: &Adapters, train: &Train) -> Self {
        Self {
            peft_type: "LORA".to_owned(),
            r: adapters.r,
            lora_alpha: adapters.alpha,
            use_rslora: adapters.rs,
            target_modules: adapters.targets.clone(),
            modules_to_save: (!train.heads.is_empty()).then(|| train.heads.clone()),
            lora_dropout: 0.0,
            bias: none(),
            fan_in_fan_out: false,
        }
    }

    /// The adapters that the file describes.
    pub fn adapters(&self) -> Adapters {
        Adapters {
            r: self.r,
            alpha: self.lora_alpha,
            rs: self.use_rslora,
            targets: self.target_modules.clone(),
        }
    }
}

/// A saved adapter, its tensors under this trainer's names and in this trainer's layout.
#[derive(Clone, Debug)]
pub struct AdapterFile {
    /// PEFT's configuration.
    pub config: AdapterConfig,
    /// Adapters and heads.
    pub tensors: Vec<NamedTensor>,
}

impl AdapterFile {
    /// A tensor by this trainer's name.
    pub fn find(&self, name: &str) -> Option<&NamedTensor> {
        self.tensors.iter().find(|tensor| tensor.name == name)
    }

    /// From PEFT's names and layout.
    pub fn from_peft(config: AdapterConfig, tensors: &[NamedTensor]) -> Self {
        let ours = |tensor: &NamedTensor| {
            let name = tensor.name.strip_prefix(PREFIX).unwrap_or(&tensor.name);
            let name = name.replace(".lora_A.weight", ".lora_a").replace(".lora_B.weight", ".lora_b");
            transposed(tensor, name)
        };
        Self { config, tensors: tensors.iter().map(ours).collect() }
    }
}

/// A tensor under PEFT's name and in PEFT's layout.
pub fn to_peft(tensor: &NamedTensor) -> NamedTensor {
    let name = tensor.name.replace(".lora_a", ".lora_A.weight").replace(".lora_b", ".lora_B.weight");
    transposed(tensor, format!("{PREFIX}{name}"))
}

fn transposed(tensor: &NamedTensor, name: String) -> NamedTensor {
    let [rows, columns] = tensor.shape[..] else {
        return NamedTensor { name, ..tensor.clone() };
    };
    let values = (0..columns).flat_map(|c| (0..rows).map(move |r| (r, c)));
    NamedTensor {
        name,
        shape: vec![columns, rows],
        values: values.map(|(r, c)| tensor.values[r * columns + c]).collect(),
    }
}
