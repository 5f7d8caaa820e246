//! Whole models: logits, losses and gradients of one batch, and parameters after 1, 2 and 20 updates of the loop.

use std::collections::BTreeMap;
use std::path::Path;

use burn::tensor::Tensor;
use rstest::rstest;
use serde::Deserialize;
use traintrue_judge::arithmetic::Counts;
use traintrue_judge::bound::{gradient_terms, unit_roundoff};
use traintrue_protocol::Recorder;
use traintrue_protocol::lanes::Lanes;
use traintrue_protocol::plan::{Dtype, Plan, Restore, Start, Stop};
use traintrue_protocol::trace::event::Cursor;

use super::golden::{Bugs, Tensors, apart, faulty, furthest, norm, parts, read, rounding, sees, set};
use crate::allowance::Allowance;
use crate::checkpoint::{Disk, Store, StoreParts};
use crate::data::{Batch, collate};
use crate::engine::{Cpu, Inner};
use crate::meter::Meter;
use crate::model::{Model, Pass, Precision, forward, losses, scalar, to_vec};
use crate::parts::Parts;
use crate::resume;
use crate::state::State;
use crate::trainer::{Training, own_contract};
use crate::turn::Turn;
use crate::window::{Scales, one_over};

/// A model's golden.
#[derive(Deserialize)]
pub struct Golden {
    /// The plan of the training.
    pub plan: Plan,
    batch: Vec<u64>,
    losses: BTreeMap<String, f64>,
    /// One row per token of the anchors.
    logits: Vec<Vec<f64>>,
    /// One per row of the batch.
    vectors: Vec<Vec<f64>>,
    gradient_bugs: Bugs,
    #[serde(default)]
    shown: Vec<u64>,
    #[serde(default)]
    update_bugs: Bugs,
}

/// The results of one forward and backward pass of the golden's batch.
pub struct Seen {
    lm: f64,
    head: f64,
    logits: Vec<f32>,
    vectors: Vec<f32>,
    gradients: Tensors,
}

impl Golden {
    /// The golden of a model by name.
    pub fn of(name: &str) -> Self {
        let golden: Self = read(name);
        golden.plan.check().unwrap();
        golden
    }

    fn collated(&self, parts: &Parts<Cpu>) -> Batch {
        let data = &self.plan.data;
        collate(&parts.collate, data, &data.samples, &data.padding, &self.batch, true)
    }

    /// The number of terms per element, forward and backward.
    fn terms(&self) -> u64 {
        let (_, parameters) =
            Model::build::<Inner<Cpu>>(&self.plan, self.plan.seed, &Default::default()).unwrap();
        let extents = |shape: &[usize]| shape.iter().map(|&it| it as u64).collect::<Vec<_>>();
        let shapes: Vec<_> = parameters.0.iter().map(|it| extents(&it.shape)).collect();
        let positions = self.collated(&parts(|_| {})).counts.positions;
        gradient_terms(positions, shapes.iter().map(|it| &it[..]))
    }

    /// The largest error of logits, vectors, losses and gradients, as a share of the tolerance.
    pub fn share_taken(&self, name: &str, seen: &Seen) -> f64 {
        let rounding = rounding(self.terms());
        let gradient = set(name, "gradient");
        let all = norm(gradient.values().flatten().map(|&it| f64::from(it)));
        let relative =
            |ours: &[f32], golden: &[Vec<f64>]| apart(ours, golden.concat()) / norm(golden.concat());
        // A loss sums the errors of its logits.
        let logits = norm(self.logits.concat());
        let loss = |ours: f64, golden: f64| (ours - golden).abs() / (golden.abs() + logits);
        let off = [
            relative(&seen.logits, &self.logits),
            relative(&seen.vectors, &self.vectors),
            loss(seen.lm, self.losses["lm"]),
            loss(seen.head, self.losses["projection"]),
            furthest(&seen.gradients, &gradient) / all,
        ];
        off.map(|it| if it.is_nan() { f64::INFINITY } else { it / rounding }).into_iter().fold(0.0, f64::max)
    }

    /// The largest distance of parameters from the golden's after `updates`. Per update, a gradient's error changes the
    /// step of an element by at most twice that error over `eps` (see `bound`), and the element is rounded twice.
    fn update_tolerance(&self, updates: u64, largest: f64, elements: usize) -> f64 {
        let optimizer = &self.plan.train.optimizer;
        let clip = self.plan.train.clip.unwrap();
        let direction = 2.0 * rounding(self.terms()) * clip / optimizer.eps;
        let values = 2.0 * unit_roundoff(Dtype::F32) * largest * (elements as f64).sqrt();
        updates as f64 * (optimizer.lr * direction + values)
    }
}

/// A state of the plan with the golden's parameters.
pub fn state(name: &str, plan: &Plan, parts: &Parts<Cpu>) -> State<Cpu> {
    let mut state = State::fresh(plan, plan.seed, 0, parts.update.optimizes, &Default::default()).unwrap();
    let mut initial = set(name, "initial");
    for parameter in &mut state.parameters.0 {
        parameter.set(initial.remove(&parameter.name).unwrap());
    }
    assert!(initial.is_empty(), "the trainer has no {initial:?}");
    state
}

/// One forward and backward pass of the golden's batch.
pub fn look(golden: &Golden, state: &mut State<Cpu>, parts: &Parts<Cpu>) -> Seen {
    let batch = golden.collated(parts);
    let turn = Turn::take();
    let weights = state.parameters.leaves::<Cpu>(Some(&turn));
    let device = Default::default();
    let mut pass = Pass {
        model: &state.model,
        weights: &weights,
        parts: &parts.forward,
        dropout: &mut state.dropout,
        tells: false,
        precision: Precision(Dtype::F32),
        device: &device,
    };
    let (rows, width, d) = (&batch.rows, batch.rows.width, state.model.size.hidden);
    let mask = pass.mask(rows);
    let hidden = forward(&mut pass, rows, 0..width, &mask, None);
    let logits = to_vec(pass.logits(hidden.clone().slice([0..batch.targets.len(), 0..d])));
    let tokens = logits.chunks_exact(logits.len() / batch.targets.len()).zip(&rows.real);
    let vectors = pass.project(hidden, rows).map(to_vec).unwrap_or_default();
    let losses = losses(&mut pass, &batch, 1, false);
    let of = |count: u64| one_over(count as f64);
    let scales = Scales { lm: of(batch.counts.targets), head: of(batch.counts.samples) };
    let found = scales.over(&losses).backward();
    let gradient = |leaf: &Tensor<Cpu, 2>| leaf.grad(&found).map(to_vec);
    let names = state.parameters.0.iter().map(|it| it.name.clone());
    Seen {
        lm: scalar(&losses.lm),
        head: losses.head.as_ref().map_or(f64::NAN, scalar),
        logits: tokens.filter(|(_, real)| **real).flat_map(|(logits, _)| logits.to_vec()).collect(),
        vectors,
        gradients: names.zip(&weights).filter_map(|(name, leaf)| Some((name, gradient(leaf)?))).collect(),
    }
}

#[rstest]
#[case("tiny")]
#[case("deep")]
#[case("lora")]
#[case("rslora")]
fn logits_losses_and_gradients_are_pytorchs(#[case] name: &str) {
    let (golden, parts) = (Golden::of(name), parts(|_| {}));
    let seen = look(&golden, &mut state(name, &golden.plan, &parts), &parts);
    let share = golden.share_taken(name, &seen);
    assert!(share <= 1.0, "{share} of the tolerance");
    sees(&golden.gradient_bugs, rounding(golden.terms()));
}

#[rstest]
#[case("tiny", faulty("padding-attended"))]
#[case("tiny", faulty("positions-not-shifted"))]
#[case("tiny", faulty("pooling-without-a-clamp"))]
#[case("tiny", faulty("softmax-over-minus-infinity"))]
#[case("deep", faulty("mask-value-within-reach"))]
#[case("deep", faulty("padding-attended"))]
#[case("tiny", faulty("eos-masked-as-pad"))]
#[case("tiny", faulty("pads-supervised"))]
fn logits_losses_and_gradients_with_a_fault_are_not_pytorchs(#[case] name: &str, #[case] parts: Parts<Cpu>) {
    let golden = Golden::of(name);
    let seen = look(&golden, &mut state(name, &golden.plan, &parts), &parts);
    assert!(golden.share_taken(name, &seen) > 1.0);
}

/// The position in the data after `updates`.
fn after_updates(plan: &Plan, updates: u64) -> Cursor {
    let counts = Counts::of(plan, &plan.contract.over(own_contract(plan)));
    let places = (0..plan.data.epochs)
        .flat_map(|epoch| (0..counts.micro_batches).map(move |it| Cursor { epoch, micro_batches: it + 1 }));
    places.into_iter().find(|&at| counts.updates_at(at) == updates).unwrap()
}

/// Parameters after `updates` of the whole loop, which starts from a checkpoint of the golden's state.
fn trained(golden: &Golden, name: &str, updates: u64, parts: Parts<Cpu>, folder: &Path) -> Tensors {
    let (from, to) = (folder.join("from"), folder.join("to"));
    let store = || Store { parts: StoreParts::default(), files: Box::new(Disk::default()) };
    let mut plan = golden.plan.clone();
    let state = state(name, &plan, &parts);
    store().save(&from, &resume::content(&state, &plan, state.cursor)).unwrap();
    plan.start = Some(Start { from, what: Restore::Everything });
    let Cursor { epoch, micro_batches } = after_updates(&plan, updates);
    plan.stop = Some(Stop { epoch, micro_batches, save: Some(to.clone()) });
    let device = Default::default();
    let mut recorder = Recorder::nowhere();
    let meter = Meter::attach(&mut recorder, &plan, Lanes::new);
    let allowance = Allowance::from_now::<Cpu>("ndarray".to_owned(), None, &device);
    let mut training = Training::new(&plan, parts, device, allowance, store(), &mut recorder, meter).unwrap();
    training.train().unwrap();
    let mut saved = store().load(&to).unwrap().content;
    assert_eq!(saved.record.step, updates);
    let model = saved.tensors.remove("model.safetensors").unwrap();
    model.into_iter().map(|it| (it.name, it.values)).collect()
}

/// The largest error of the parameters over the golden's updates, as a share of the tolerance; and whether every frozen
/// parameter kept every bit.
fn share_taken(golden: &Golden, name: &str, parts: impl Fn() -> Parts<Cpu>) -> (f64, bool) {
    let (initial, mut share, mut kept) = (set(name, "initial"), 0.0_f64, true);
    for &updates in &golden.shown {
        let folder = tempfile::tempdir().unwrap();
        let ours = trained(golden, name, updates, parts(), folder.path());
        let expected = set(name, &format!("after-{updates}"));
        for (name, ours) in &ours {
            let Some(golden_values) = expected.get(name) else {
                kept &= *ours == initial[name];
                continue;
            };
            let golden_values = golden_values.iter().map(|&it| f64::from(it));
            let largest = golden_values.clone().map(f64::abs).fold(0.0, f64::max);
            let tolerance = golden.update_tolerance(updates, largest, ours.len());
            share = share.max(apart(ours, golden_values) / tolerance);
        }
    }
    (share, kept)
}

#[rstest]
#[case("tiny")]
#[case("lora")]
#[case("rslora")]
fn parameters_after_1_2_and_20_updates_of_the_loop_are_pytorchs(#[case] name: &str) {
    let golden = Golden::of(name);
    assert_eq!(golden.shown, [1, 2, 20]);
    let (share, kept) = share_taken(&golden, name, || parts(|_| {}));
    assert!(share <= 1.0, "{share} of the tolerance");
    assert!(kept, "a frozen tensor has moved");
    let initial = set(name, "initial");
    let tolerances = initial.values().map(|it| {
        let largest = it.iter().fold(0.0_f64, |most, &it| most.max(f64::from(it.abs())));
        golden.update_tolerance(20, largest, it.len())
    });
    sees(&golden.update_bugs, tolerances.fold(0.0, f64::max));
}

#[rstest]
#[case("tiny", "sum-not-mean")]
#[case("tiny", "mean-of-token-means")]
#[case("tiny", "pads-in-the-denominator")]
#[case("tiny", "partial-window-mis-scaled")]
#[case("tiny", "zero-grad-missing")]
#[case("tiny", "zero-grad-every-micro-batch")]
#[case("tiny", "clip-per-micro-batch")]
#[case("tiny", "clip-per-tensor")]
#[case("tiny", "schedule-per-micro-batch")]
#[case("tiny", "total-not-divided")]
#[case("tiny", "warmup-off-by-one")]
#[case("lora", "optimizer-before-the-wrap")]
#[case("lora", "base-decays")]
fn parameters_after_updates_with_a_fault_are_not_pytorchs(#[case] name: &str, #[case] fault: &str) {
    let (share, kept) = share_taken(&Golden::of(name), name, || faulty(fault));
    assert!(share > 1.0 || !kept, "{share} of the tolerance");
}

#[test]
fn parameters_after_updates_that_decay_biases_are_not_pytorchs() {
    let decays = || parts(|parts| parts.update.decay = |_, train| train.optimizer.decay);
    assert!(share_taken(&Golden::of("tiny"), "tiny", decays).0 > 1.0);
}
