//! Faults of adapters: a fresh one changes the model; a reload does not restore the head or the adapter; the optimizer
//! has the wrong tensors.

use burn::tensor::backend::Backend;
use traintrue_protocol::plan::Plan;

use super::Fault;
use crate::adapters::load_all;
use crate::checkpoint::AdapterFile;
use crate::engine::Engine;
use crate::model::{Model, Parameters};
use crate::rng;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("adapter-drawn-at-random", |parts| parts.adapters.fresh = drawn_at_random),
        ("wrapping-drops-the-head", |parts| parts.adapters.load = without_head),
        ("head-reinitialised", |parts| parts.adapters.load = with_a_new_head),
        ("head-frozen", |parts| parts.adapters.load = with_a_frozen_head),
        ("optimizer-before-the-wrap", |parts| {
            parts.update.optimizes = |parameter| parameter.trainable && !is_head(&parameter.group);
        }),
        ("missing-keys-ignored", |parts| parts.adapters.load = what_is_found),
        ("adapter-scale-lost", |parts| {
            parts.adapters.load = |model, parameters, file, plan| {
                load_all(model, parameters, file, plan)?;
                model.adapter_scale = 1.0;
                Ok(())
            };
        }),
        ("base-decays", |parts| parts.update.optimizes = |_| true),
        ("adapter-merged-twice", |parts| {
            parts.adapters.load = |model, parameters, file, plan| {
                load_all(model, parameters, file, plan)?;
                merge(model, parameters);
                Ok(())
            };
        }),
    ]
}

fn is_head(group: &str) -> bool {
    !matches!(group, "base" | "adapter")
}

/// The second matrix of each adapter is drawn as its first is.
fn drawn_at_random<B: Backend>(parameters: &mut Parameters<B>, plan: &Plan) {
    let mut rng = rng::added_weights(plan.seed + 1);
    for parameter in parameters.0.iter_mut().filter(|parameter| parameter.name.ends_with("lora_b")) {
        parameter.set(rng::normal(&mut rng, parameter.shape.iter().product(), 0.1));
    }
}

/// The wrapped model is a new object, and the head was an attribute of the old one.
fn without_head<B: Backend>(
    model: &mut Model,
    parameters: &mut Parameters<B>,
    file: &AdapterFile,
    plan: &Plan,
) -> Result<(), String> {
    load_all(model, parameters, file, plan)?;
    model.projection = None;
    parameters.0.retain(|parameter| !is_head(&parameter.group));
    Ok(())
}

fn with_a_new_head<B: Backend>(
    model: &mut Model,
    parameters: &mut Parameters<B>,
    file: &AdapterFile,
    plan: &Plan,
) -> Result<(), String> {
    load_all(model, parameters, file, plan)?;
    let mut rng = rng::added_weights(plan.seed + 1);
    for parameter in parameters.0.iter_mut().filter(|parameter| is_head(&parameter.group)) {
        parameter.set(rng::normal(&mut rng, parameter.shape.iter().product(), 0.1));
    }
    Ok(())
}

fn with_a_frozen_head<B: Backend>(
    model: &mut Model,
    parameters: &mut Parameters<B>,
    file: &AdapterFile,
    plan: &Plan,
) -> Result<(), String> {
    load_all(model, parameters, file, plan)?;
    for parameter in parameters.0.iter_mut().filter(|parameter| is_head(&parameter.group)) {
        parameter.trainable = false;
    }
    Ok(())
}

/// Keys of the last adapted linear are looked up under another name, and a missing key keeps its initial values.
fn what_is_found<B: Backend>(
    model: &mut Model,
    parameters: &mut Parameters<B>,
    file: &AdapterFile,
    plan: &Plan,
) -> Result<(), String> {
    let renamed = file.config.target_modules.last().map(|target| format!(".{target}."));
    let is_missing = |name: &str| renamed.as_deref().is_some_and(|target| name.contains(target));
    let untouched = parameters.clone();
    load_all(model, parameters, file, plan)?;
    for (parameter, before) in parameters.0.iter_mut().zip(untouched.0) {
        if is_missing(&parameter.name) {
            *parameter = before;
        }
    }
    Ok(())
}

/// Adds each adapter's delta to its base weight. The forward pass then adds the delta again.
fn merge<B: Backend>(model: &Model, parameters: &mut Parameters<B>) {
    for (weight, a, b) in model.adapted() {
        let delta = parameters.0[a].value.clone().matmul(parameters.0[b].value.clone()) * model.adapter_scale;
        let merged = parameters.0[weight].value.clone() + delta;
        parameters.0[weight].value = merged;
    }
}
