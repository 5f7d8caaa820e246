//! The estimate against peaks that PyTorch's allocator counted: `golden/torch-memory`, one row a case.

use std::fs;
use std::path::Path;

use serde::Deserialize;
use serde_json::Value;
use traintrue_protocol::plan::Dtype;

use super::*;

#[derive(Deserialize)]
struct Golden {
    models: std::collections::BTreeMap<String, Measured>,
}

#[derive(Deserialize)]
struct Measured {
    config: Value,
    cases: Vec<Case>,
}

#[derive(Clone, Debug, Deserialize)]
struct Case {
    attention: String,
    checkpointing: bool,
    adapters: Option<u64>,
    targets: Option<Vec<String>>,
    accumulation: u64,
    batch: u64,
    length: u64,
    target_length: Option<u64>,
    parameters_bytes: u64,
    trained_bytes: u64,
    moments_bytes: u64,
    peak_bytes: u64,
}

impl Case {
    fn request(&self) -> Request {
        let target = |name: &String| Target::ALL.into_iter().find(|it| it.name() == name).unwrap();
        let targets = self.targets.iter().flatten().map(target).collect();
        Request {
            batch: self.batch,
            rows_per_sample: 1,
            labelled_rows: None,
            length: self.length,
            target_length: self.target_length,
            dtype: Dtype::F32,
            moments: Moments::In(Dtype::F32),
            optimizer: Optimizer::Adamw,
            adapters: self.adapters.map(|r| Adapters { r, targets }),
            engine: if self.attention == "sdpa" { Engine::TorchSdpa } else { Engine::TorchEager },
            accumulation: self.accumulation,
            clips: false,
            checkpointing: self.checkpointing,
            cache: false,
        }
    }

    fn name(&self) -> String {
        let trained = self.adapters.map_or("full".to_owned(), |r| format!("LoRA {r}"));
        let checkpointing = if self.checkpointing { ", checkpointed" } else { "" };
        let window = if self.accumulation > 1 { ", accumulating" } else { "" };
        format!("{trained}, {}{checkpointing}{window}, {} x {}", self.attention, self.batch, self.length)
    }
}

fn golden() -> Golden {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../golden/torch-memory/peaks.json");
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// The bytes of all parts but the reserve: the CPU's allocator rounds nothing up.
fn allocated(estimate: &Estimate) -> u64 {
    estimate.parts.iter().filter(|part| part.name != "reserve").map(|part| part.bytes).sum()
}

#[test]
fn every_measured_peak_is_within_a_tenth_of_the_estimate() {
    let mut off = Vec::new();
    let mut errors = Vec::new();
    for (model, measured) in golden().models {
        let architecture = read_config(&measured.config.to_string()).unwrap();
        for case in &measured.cases {
            let found = estimate(&model, &architecture, &case.request(), None).unwrap();
            let ratio = allocated(&found) as f64 / case.peak_bytes as f64;
            errors.push((ratio - 1.0).abs());
            let (predicted, peak) = (allocated(&found), case.peak_bytes);
            let row = format!(
                "{model:<9} {:<48} {predicted:>10} {peak:>10}  {ratio:.3}  {}",
                case.name(),
                found.peak
            );
            println!("{row}");
            if (ratio - 1.0).abs() > 0.1 {
                off.push(row);
            }
        }
    }
    let mean = errors.iter().sum::<f64>() / errors.len() as f64;
    println!("{} cases, mean error {:.1} %", errors.len(), 100.0 * mean);
    assert!(off.is_empty(), "more than a tenth off:\n{}", off.join("\n"));
}

#[test]
fn parameters_and_moments_are_those_of_transformers_to_the_byte() {
    for (model, measured) in golden().models {
        let architecture = read_config(&measured.config.to_string()).unwrap();
        for case in &measured.cases {
            let found = estimate(&model, &architecture, &case.request(), None).unwrap();
            let part = |name: &str| found.parts.iter().find(|it| it.name == name).unwrap().bytes;
            let found = [part("parameters") + part("adapters"), 4 * found.trained, part("moments")];
            let measured = [case.parameters_bytes, case.trained_bytes, case.moments_bytes];
            assert_eq!(found, measured, "{model}: {}", case.name());
        }
    }
}
