//! What is written is what is read: events with every bit of their numbers, and plans.

use std::fs::File;

use proptest::collection::{btree_map, vec};
use proptest::option::of;
use proptest::prelude::*;
use proptest::sample::select;
use traintrue_protocol::number::Number;
use traintrue_protocol::plan::{Boundary, Plan};
use traintrue_protocol::trace::event::{
    Adapted, Checkpoint, CheckpointEdge, Cursor, End, EndReason, Epoch, Evaluation, Loss, Memory, MicroBatch,
    Oom, Probe, ProbeGradient, ProbeRow, Run, State, TensorState, Update,
};
use traintrue_protocol::trace::{Event, TraceWriter};
use traintrue_protocol::vocabulary::{Adaptation, Moment};

use crate::in_process::{Bench, events};
use crate::strategies::{padding, plan, row_probes};

proptest! {
    #![proptest_config(crate::properties::config(96))]

    #[test]
    fn a_trace_survives_its_file(plan in plan(), mut written in vec(event(), 0..24)) {
        let opening = Run {
            schema: 1,
            trainer: "a \"trainer\"\n1".into(),
            device: "ndarray".into(),
            scenario: plan.scenario.clone(),
            run: plan.run.clone(),
            contract: plan.contract.over(Default::default()),
            plan,
            recorded: None,
        };
        written.insert(0, Event::Run(Box::new(opening)));
        let bench = Bench::new();
        let path = bench.path("trace.jsonl");
        let mut writer = TraceWriter::new(File::create(&path).unwrap());
        written.iter().for_each(|event| writer.write(event).unwrap());
        prop_assert_eq!(events(&path), written);
    }

    #[test]
    fn a_plan_survives_json(plan in plan(), padding in padding()) {
        let plan = Plan { probes: row_probes(&plan, padding), ..plan };
        prop_assert_eq!(Plan::parse(&serde_json::to_string(&plan).unwrap()).unwrap(), plan);
    }

    #[test]
    fn a_number_survives_json_with_every_bit(bits in any::<u64>()) {
        let number = Number(f64::from_bits(bits));
        let read: Number = serde_json::from_str(&serde_json::to_string(&number).unwrap()).unwrap();
        prop_assert_eq!(read, number);
    }
}

/// Any bits at all; NaN and the infinities more often than chance would have them.
fn number() -> impl Strategy<Value = Number> {
    prop_oneof![
        6 => any::<u64>().prop_map(|bits| Number(f64::from_bits(bits))),
        1 => Just(Number(f64::NAN)),
        1 => Just(Number(f64::INFINITY)),
        1 => Just(Number(f64::NEG_INFINITY)),
        1 => Just(Number(-0.0)),
    ]
}

fn losses() -> impl Strategy<Value = Vec<Loss>> {
    vec((".*", number(), number()).prop_map(|(name, sum, weight)| Loss { name, sum, weight }), 0..3)
}

/// Every event but `run`, which comes first and only once.
pub fn event() -> impl Strategy<Value = Event> {
    prop_oneof![micro_batch(), update(), state(), probe(), evaluation(), checkpoint(), small()]
}

fn micro_batch() -> impl Strategy<Value = Event> {
    (any::<(u64, u64)>(), of(vec(any::<u64>(), 0..4)), of(any::<u64>()), of(any::<bool>()), losses())
        .prop_map(|((epoch, index), samples, count, checkpointing, losses)| {
            Event::MicroBatch(MicroBatch {
                epoch,
                index,
                samples,
                rows: count,
                width: count,
                tokens: None,
                targets: count,
                cache_bytes: count,
                checkpointing,
                losses,
                ..Default::default()
            })
        })
}

fn update() -> impl Strategy<Value = Event> {
    (any::<u64>(), of(any::<u64>()), vec(number(), 0..3), of(number()), any::<bool>(), of(".*")).prop_map(
        |(step, micro_batches, lr, grad_norm, applied, digest)| {
            let (targets, clipped_norm) = (micro_batches, grad_norm);
            Event::Update(Update {
                step,
                micro_batches,
                targets,
                lr,
                grad_norm,
                clipped_norm,
                applied,
                digest,
                ..Default::default()
            })
        },
    )
}

fn state() -> impl Strategy<Value = Event> {
    let cursor = of(any::<(u64, u64)>().prop_map(|(epoch, micro_batches)| Cursor { epoch, micro_batches }));
    (select(Moment::ALL), any::<u64>(), vec(tensor(), 0..3), of(".*"), cursor, of(number())).prop_map(
        |(at, step, tensors, rng, cursor, best)| {
            Event::State(Box::new(State {
                at,
                step,
                tensors,
                buffers: Default::default(),
                parts: Default::default(),
                window_digest: rng.clone(),
                rng,
                schedule_step: Some(step),
                cursor,
                window: None,
                best,
                scaler: best,
                ema: None,
            }))
        },
    )
}

fn tensor() -> impl Strategy<Value = TensorState> {
    (".*", vec(any::<u64>(), 0..3), any::<(bool, bool)>(), of(".*"), of(number()), vec(number(), 0..3))
        .prop_map(|(name, shape, (trainable, optimized), moments, grad_norm, sketch)| TensorState {
            group: name.clone(),
            digest: name.clone(),
            name,
            shape,
            dtype: "f32".into(),
            trainable,
            optimized,
            decay: None,
            moments,
            grad_norm,
            sketch,
        })
}

fn probe() -> impl Strategy<Value = Event> {
    let row = (number(), vec(number(), 0..4), vec(number(), 0..2), any::<u64>())
        .prop_map(|(loss, logits, head, nonfinite)| ProbeRow { loss, logits, head, nonfinite });
    let gradient = (".*", vec(any::<u64>(), 0..3), number(), vec(number(), 0..3))
        .prop_map(|(name, shape, norm, sketch)| ProbeGradient { name, shape, norm, sketch });
    (".*", of(".*"), vec(row, 0..3), of(any::<u64>()), vec(gradient, 0..2)).prop_map(
        |(name, at, rows, width, gradients)| {
            Event::Probe(Box::new(Probe { name, at, rows, width, cache_bytes: width, gradients }))
        },
    )
}

fn evaluation() -> impl Strategy<Value = Event> {
    (any::<u64>(), of(vec(any::<u64>(), 0..4)), losses(), of(number()), of(".*"), of(any::<u64>())).prop_map(
        |(step, samples, losses, metric, digest, dropped)| {
            Event::Evaluation(Evaluation {
                step,
                samples,
                losses,
                metric,
                digest_before: digest.clone(),
                digest_after: None,
                rng_before: digest.clone(),
                rng_after: digest,
                dropped,
                ..Default::default()
            })
        },
    )
}

fn checkpoint() -> impl Strategy<Value = Event> {
    let edge =
        prop_oneof![Just(CheckpointEdge::Saved), Just(CheckpointEdge::Loaded), Just(CheckpointEdge::Deleted)];
    (edge, any::<(u64, u64, u64)>(), ".*", of(any::<u64>()), vec(".*", 0..3)).prop_map(
        |(edge, (step, epoch, micro_batches), path, operations, damaged)| {
            Event::Checkpoint(Checkpoint {
                edge,
                step,
                epoch,
                micro_batches,
                path,
                operations,
                damaged,
                whole: None,
            })
        },
    )
}

/// The events with few fields.
fn small() -> impl Strategy<Value = Event> {
    let lanes = btree_map(".*", of(any::<u64>()), 0..3);
    prop_oneof![
        (any::<u64>(), lanes).prop_map(|(step, lanes)| Event::Memory(Memory {
            at: Boundary::Checkpoint,
            step,
            lanes
        })),
        any::<u64>().prop_map(|epoch| Event::Epoch(Epoch::begin(epoch))),
        (".*", any::<u64>())
            .prop_map(|(device, requested_bytes)| Event::Oom(Oom { device, requested_bytes })),
        (select(Adaptation::ALL), ".*", any::<u32>(), of(any::<u64>())).prop_map(
            |(what, reason, to, accumulation)| {
                Event::Adapted(Adapted { what, reason, from: "8".into(), to: to.into(), accumulation })
            }
        ),
        of(".*").prop_map(|message| Event::End(End::new(EndReason::MemoryLimit, message))),
    ]
}
