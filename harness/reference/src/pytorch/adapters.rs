//! Adapter folders: the trainer reads PEFT's, and writes what PEFT writes.

use std::fs;

use rstest::rstest;
use serde_json::Value;

use super::golden::{faulty, parts, path, tensors};
use super::training::{Golden, Seen, look, state};
use crate::adapters::adapter_tensors;
use crate::checkpoint::{ADAPTER, AdapterConfig, AdapterFile, from_safetensors, to_safetensors};
use crate::engine::Cpu;
use crate::model::Parameter;
use crate::parts::Parts;

/// The configuration that PEFT has written.
fn config(name: &str) -> Value {
    serde_json::from_slice(&fs::read(path(&format!("{name}/adapter_config.json"))).unwrap()).unwrap()
}

/// The forward and backward pass of a golden's batch, with the adapter and head of PEFT's folder.
fn with_pefts_folder(golden: &Golden, name: &str, parts: &Parts<Cpu>) -> Seen {
    let mut state = state(name, &golden.plan, parts);
    for parameter in state.parameters.0.iter_mut().filter(|it| it.group != "base") {
        let count = parameter.shape.iter().product();
        parameter.set(vec![0.5; count]);
    }
    state.model.adapter_scale = 0.0;
    let saved = tensors(&format!("{name}/{ADAPTER}"));
    let file = AdapterFile::from_peft(serde_json::from_value(config(name)).unwrap(), &saved);
    (parts.adapters.load)(&mut state.model, &mut state.parameters, &file, &golden.plan).unwrap();
    look(golden, &mut state, parts)
}

#[rstest]
#[case("lora")]
#[case("rslora")]
fn an_adapter_that_peft_wrote_gives_pefts_logits(#[case] name: &str) {
    let golden = Golden::of(name);
    let share = golden.share_taken(name, &with_pefts_folder(&golden, name, &parts(|_| {})));
    assert!(share <= 1.0, "{share} of the tolerance");
}

#[rstest]
fn an_adapter_that_peft_wrote_gives_other_logits_under_a_fault(
    #[values("lora", "rslora")] name: &str,
    #[values("adapter-scale-lost", "adapter-merged-twice", "missing-keys-ignored", "head-reinitialised")]
    fault: &str,
) {
    let golden = Golden::of(name);
    assert!(golden.share_taken(name, &with_pefts_folder(&golden, name, &faulty(fault))) > 1.0);
}

#[rstest]
#[case("lora")]
#[case("rslora")]
fn what_is_written_for_peft_is_what_peft_writes(#[case] name: &str) {
    let golden = Golden::of(name);
    let state = state(name, &golden.plan, &parts(|_| {}));
    let bytes = to_safetensors(&adapter_tensors(&state.parameters)).unwrap();
    let mut ours = from_safetensors(&bytes).unwrap();
    let mut theirs = tensors(&format!("{name}/{ADAPTER}"));
    ours.sort_by(|one, other| one.name.cmp(&other.name));
    theirs.sort_by(|one, other| one.name.cmp(&other.name));
    assert_eq!(ours, theirs);
    assert_eq!(ours.len(), state.parameters.0.iter().filter(|it: &&Parameter<_>| it.group != "base").count());

    let train = &golden.plan.train;
    let ours = serde_json::to_value(AdapterConfig::of(train.adapters.as_ref().unwrap(), train)).unwrap();
    let theirs = config(name);
    for (field, ours) in ours.as_object().unwrap() {
        // PEFT writes whole numbers as integers, and the targets in the order of a Python set.
        let plain = |value: &Value| match value {
            Value::Number(it) => Value::from(it.as_f64()),
            Value::Array(items) => {
                let mut items: Vec<&str> = items.iter().filter_map(Value::as_str).collect();
                items.sort_unstable();
                Value::from(items)
            }
            other => other.clone(),
        };
        assert_eq!(plain(ours), plain(&theirs[field]), "{field}");
    }
}
