//! AdamW and clipping by themselves, from given gradients, with PyTorch's `eps` of 1e-8.

use rstest::rstest;
use serde::Deserialize;
use serde_json::json;
use traintrue_judge::bound::unit_roundoff;
use traintrue_protocol::plan::{Dtype, Train};

use super::golden::{Bugs, Tensors, faulty, furthest, parts, read, sees, set, tensors};
use crate::checkpoint::NamedTensor;
use crate::engine::{Cpu, Inner};
use crate::model::{Parameter, Parameters, from_vec};
use crate::optimizer::AdamW;
use crate::parts::Parts;

#[derive(Deserialize)]
struct Golden {
    lr: f64,
    betas: [f64; 2],
    eps: f64,
    clip: f64,
    decay: f64,
    updates: u64,
    shown: Vec<u64>,
    bugs: Bugs,
}

impl Golden {
    fn train(&self) -> Train {
        let Self { lr, betas, eps, decay, clip, .. } = self;
        let optimizer = json!({"name": "adamw", "lr": lr, "betas": betas, "eps": eps, "decay": decay});
        let train = json!({
            "accumulation": 1, "optimizer": optimizer, "clip": clip, "schedule": {"name": "constant", "warmup": 0}
        });
        serde_json::from_value(train).unwrap()
    }

    /// Each update rounds a value twice. The two moments are sums of an update's number of terms, with three roundings
    /// each, and the direction that they give is no longer than 2.
    fn tolerance(&self) -> f64 {
        let (n, elements) = (self.updates as f64, 12.0_f64);
        let of_values = 2.0 * n;
        let of_directions = 2.0 * self.lr * (3.0 * n * n + 8.0 * n);
        (of_values + of_directions) * unit_roundoff(Dtype::F32) * elements.sqrt()
    }
}

fn parameter(tensor: NamedTensor) -> Parameter<Inner<Cpu>> {
    let extents = Parameter::<Inner<Cpu>>::extents(&tensor.shape);
    Parameter {
        value: from_vec(tensor.values, extents, &Default::default()),
        name: tensor.name,
        group: "base".to_owned(),
        shape: tensor.shape,
        trainable: true,
    }
}

fn values(parameters: &Parameters<Inner<Cpu>>) -> Tensors {
    let short = |name: &str| name.trim_start_matches("initial/").to_owned();
    parameters.0.iter().map(|it| (short(&it.name), it.values())).collect()
}

/// The largest distance from the golden, over the updates that it shows.
fn off(golden: &Golden, parts: &Parts<Cpu>) -> f64 {
    let (train, all) = (golden.train(), tensors("optimizer.safetensors"));
    let initial = all.into_iter().filter(|it| it.name.starts_with("initial/"));
    let mut parameters = Parameters(initial.map(parameter).collect());
    let mut optimizer = AdamW::over(&parameters, parts.update.optimizes);
    let mut furthest_off = 0.0_f64;
    for number in 1..=golden.updates {
        let given = set("optimizer", &format!("gradient-{number}"));
        let gradient = |parameter: &Parameter<Inner<Cpu>>| {
            let values = given[parameter.name.trim_start_matches("initial/")].clone();
            Some(from_vec(values, parameter.value.dims(), &Default::default()))
        };
        let mut gradients = parameters.0.iter().map(gradient).collect();
        (parts.update.clip)(&mut gradients, train.clip);
        optimizer.step(&mut parameters, &gradients, &train, parts.update.decay, golden.lr);
        if golden.shown.contains(&number) {
            let after = set("optimizer", &format!("after-{number}"));
            furthest_off = furthest_off.max(furthest(&values(&parameters), &after));
        }
    }
    furthest_off
}

#[test]
fn twenty_updates_with_clipping_and_decay_groups_are_pytorchs() {
    let golden: Golden = read("optimizer");
    assert_eq!(golden.shown, [1, 2, 20]);
    let off = off(&golden, &parts(|_| {}));
    assert!(off <= golden.tolerance(), "{off:e}, at most {:e}", golden.tolerance());
    sees(&golden.bugs, golden.tolerance());
}

#[rstest]
#[case::vectors_decay(parts(|parts| parts.update.decay = |_, train| train.optimizer.decay))]
#[case::nothing_decays(parts(|parts| parts.update.decay = |_, _| 0.0))]
#[case::unclipped(parts(|parts| parts.update.clip = |_, _| {}))]
#[case::clipped_tensor_by_tensor(faulty("clip-per-tensor"))]
#[case::clipped_without_eps(parts(|parts| parts.update.clip = |gradients, max| {
    let share = max.unwrap() / crate::optimizer::global_norm(gradients);
    for gradient in gradients.iter_mut().flatten() {
        *gradient = gradient.clone() * share.min(1.0);
    }
}))]
fn wrong_updates_are_not_pytorchs(#[case] parts: Parts<Cpu>) {
    let golden: Golden = read("optimizer");
    assert!(off(&golden, &parts) > golden.tolerance());
}
