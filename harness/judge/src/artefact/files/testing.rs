//! Small healthy files for tests, written with code; a test changes one thing.

use std::path::{Path, PathBuf};

use safetensors::Dtype;
use safetensors::tensor::TensorView;
use serde_json::{Value, json};

/// A tensor to be written.
#[derive(Clone, Debug)]
pub(crate) struct Written {
    pub(crate) name: String,
    dtype: Dtype,
    shape: Vec<usize>,
    bytes: Vec<u8>,
}

impl Written {
    pub(crate) fn raw(name: &str, dtype: Dtype, shape: &[usize], bytes: &[u8]) -> Self {
        Self { name: name.into(), dtype, shape: shape.to_vec(), bytes: bytes.to_vec() }
    }

    pub(crate) fn f32(name: &str, shape: &[usize], values: &[f32]) -> Self {
        let bytes: Vec<u8> = values.iter().flat_map(|value| value.to_le_bytes()).collect();
        Self::raw(name, Dtype::F32, shape, &bytes)
    }

    /// Every value the same.
    pub(crate) fn filled(name: &str, shape: &[usize], value: f32) -> Self {
        Self::f32(name, shape, &vec![value; shape.iter().product()])
    }
}

/// The bytes of a safetensors file.
pub(crate) fn safetensors(tensors: &[Written]) -> Vec<u8> {
    let views = tensors
        .iter()
        .map(|it| (it.name.as_str(), TensorView::new(it.dtype, it.shape.clone(), &it.bytes).unwrap()));
    ::safetensors::serialize(views, None).unwrap()
}

/// The configuration of [`adapter_tensors`].
pub(crate) fn adapter_config() -> Value {
    json!({
        "peft_type": "LORA", "task_type": "CAUSAL_LM", "r": 4, "lora_alpha": 8, "use_rslora": false,
        "use_dora": false, "target_modules": ["q_proj", "v_proj"], "modules_to_save": ["projection"],
        "rank_pattern": {"layers.1.v_proj": 2}, "alpha_pattern": {}, "bias": "none", "peft_version": "0.17.1",
        "a_field_of_tomorrow": {"x": [1]},
    })
}

/// Two layers of two adapted modules, and a head; every value is `value`.
pub(crate) fn adapter_tensors(value: f32) -> Vec<Written> {
    let mut tensors = vec![
        Written::filled("base_model.model.projection.weight", &[3, 8], value),
        Written::filled("base_model.model.projection.bias", &[3], value),
    ];
    for (module, r) in [("0.q_proj", 4), ("0.v_proj", 4), ("1.q_proj", 4), ("1.v_proj", 2)] {
        let name = |half: &str| format!("base_model.model.layers.{module}.lora_{half}.weight");
        tensors.push(Written::filled(&name("A"), &[r, 8], value));
        tensors.push(Written::filled(&name("B"), &[6, r], value));
    }
    tensors
}

/// A folder of an adapter as PEFT leaves it.
pub(crate) fn adapter_folder(folder: &Path, config: &Value, tensors: &[Written]) -> PathBuf {
    std::fs::create_dir_all(folder).unwrap();
    std::fs::write(folder.join("adapter_config.json"), config.to_string()).unwrap();
    std::fs::write(folder.join("adapter_model.safetensors"), safetensors(tensors)).unwrap();
    folder.to_owned()
}

/// The state after 10 of 15 updates: 3 epochs of 5, warm-up over 3, linear from 5e-4, logged at every update.
pub(crate) fn state(change: impl FnOnce(&mut Value)) -> Value {
    let mut log = Vec::new();
    for step in 1..=10_u64 {
        let taken = (step - 1) as f64;
        let lr = 5e-4 * if taken < 3.0 { taken / 3.0 } else { (15.0 - taken) / 12.0 };
        let epoch = step as f64 / 5.0;
        log.push(json!({"epoch": epoch, "grad_norm": 1.25, "learning_rate": lr, "loss": 2.5, "step": step}));
        if step % 5 == 0 {
            log.push(json!({"epoch": epoch, "eval_loss": 3.0 - epoch, "eval_runtime": 0.1, "step": step}));
        }
    }
    let mut state = json!({
        "best_global_step": 10, "best_metric": 1.0, "best_model_checkpoint": "out/checkpoint-10",
        "epoch": 2.0, "global_step": 10, "is_world_process_zero": true, "log_history": log,
        "logging_steps": 1, "max_steps": 15, "num_train_epochs": 3, "save_steps": 5, "trial_name": null,
    });
    change(&mut state);
    state
}

/// Its text, a field a line.
pub(crate) fn state_text(change: impl FnOnce(&mut Value)) -> String {
    serde_json::to_string_pretty(&state(change)).unwrap()
}
