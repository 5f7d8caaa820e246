//! Random plans of the reference trainer, small enough to train in milliseconds, and random places to cut them.

use proptest::collection::vec;
use proptest::prelude::*;
use traintrue_protocol::contract::{Asked, FirstLr, Normaliser, Tail};
use traintrue_protocol::plan::{
    Adapters, Data, Model, Optimizer, Padding, PaddingPolicy, Plan, Probe, SCHEMA, Schedule, ScheduleName,
    Side, Tokens, Train,
};
use traintrue_protocol::trace::event::Cursor;

/// The token ids of these plans.
pub const TOKENS: Tokens = Tokens { pad: 3, bos: 1, eos: 2, vocabulary: 32 };

/// A whole clean run of the tiny model.
pub fn plan() -> impl Strategy<Value = Plan> {
    (any::<u32>(), data(), train(), asked()).prop_map(|(seed, data, train, contract)| Plan {
        schema: SCHEMA,
        scenario: "random".into(),
        run: "whole".into(),
        seed: seed.into(),
        data,
        train,
        model: Model { size: "tiny".into() },
        start: None,
        stop: None,
        evaluate_every: None,
        save_every: None,
        save_to: None,
        state_every: Some(1),
        sample_memory: Vec::new(),
        probes: Vec::new(),
        memory: None,
        devices: Vec::new(),
        operations: false,
        cycles: Vec::new(),
        contract,
        trace: None,
    })
}

/// The same, and a place to cut it: either side of an epoch's edge is one, and so are the first place and the last.
pub fn cut_plan() -> impl Strategy<Value = (Plan, Cursor)> {
    plan().prop_flat_map(|plan| {
        let (epochs, length) = (plan.data.epochs, micro_batches(&plan));
        let place = prop_oneof![
            6 => 0..=length,
            1 => Just(0),
            1 => Just(length),
        ];
        let cut = (0..epochs, place).prop_map(|(epoch, micro_batches)| Cursor { epoch, micro_batches });
        (Just(plan), cut)
    })
}

/// Micro-batches of this rank in an epoch.
pub fn micro_batches(plan: &Plan) -> u64 {
    let (samples, batch) = (plan.data.samples.len() as u64, plan.data.batch);
    let all = if plan.data.drop_last { samples / batch } else { samples.div_ceil(batch) };
    all / plan.train.world
}

/// Probes of some samples together and of each of them alone: a row does not depend on its neighbours.
pub fn row_probes(plan: &Plan, padding: Padding) -> Vec<Probe> {
    let probe = |name: String, samples: Vec<u64>, gradients: bool| Probe {
        name,
        at: Default::default(),
        samples,
        padding: Some(padding),
        dtype: None,
        cached: false,
        gradients,
    };
    let samples: Vec<u64> = (0..plan.data.samples.len() as u64).take(4).collect();
    let alone = samples.iter().map(|&id| probe(format!("rows:alone-{id}"), vec![id], false));
    std::iter::once(probe("rows:together".into(), samples.clone(), false)).chain(alone).collect()
}

/// A way to pad.
pub fn padding() -> impl Strategy<Value = Padding> {
    let policy = prop_oneof![Just(PaddingPolicy::Longest), Just(PaddingPolicy::MaxLength)];
    let side = prop_oneof![Just(Side::Left), Just(Side::Right)];
    (policy, side, prop_oneof![Just(1u64), 2..9u64]).prop_map(|(policy, side, multiple_of)| Padding {
        policy,
        side,
        multiple_of,
    })
}

/// Ragged samples, enough for at least one micro-batch of each of three ranks.
fn data() -> impl Strategy<Value = Data> {
    (1u64..4, padding(), 1u64..4, any::<bool>(), 4u64..14, any::<bool>()).prop_flat_map(
        |(batch, padding, epochs, shuffle, max_length, drop_last)| {
            let least = 3 * batch as usize;
            vec(sample(), least..least + 16).prop_map(move |samples| Data {
                samples,
                evaluation: Vec::new(),
                tokens: TOKENS,
                batch,
                epochs,
                shuffle,
                padding,
                max_length,
                drop_last,
            })
        },
    )
}

/// Text between a begin and an end token; now and then nothing at all, which is a row of padding.
fn sample() -> impl Strategy<Value = Vec<u32>> {
    let text = vec(4u32..TOKENS.vocabulary, 1..12);
    let whole = text.prop_map(|text| [vec![TOKENS.bos], text, vec![TOKENS.eos]].concat());
    prop_oneof![12 => whole, 1 => Just(Vec::new())]
}

fn train() -> impl Strategy<Value = Train> {
    let clip = proptest::option::of(0.01f64..2.0);
    let dropout = prop_oneof![Just(0.0), 0.05f64..0.5];
    let adapters = proptest::option::of((1u64..4, 1.0f64..16.0, any::<bool>()));
    let heads = prop_oneof![2 => Just(Vec::new()), 1 => Just(vec!["projection".to_owned()])];
    let share = (1u64..4).prop_flat_map(|world| (0..world, Just(world)));
    (1u64..6, 1e-4f64..1e-2, clip, schedule(), dropout, adapters, heads, share).prop_map(
        |(accumulation, lr, clip, schedule, dropout, adapters, heads, (rank, world))| Train {
            accumulation,
            optimizer: Optimizer { name: "adamw".into(), lr, betas: [0.9, 0.999], eps: 1e-8, decay: 0.01 },
            clip,
            schedule,
            dropout,
            adapters: adapters.map(|(r, alpha, rs)| Adapters {
                r,
                alpha,
                rs,
                targets: vec!["q".into(), "v".into()],
            }),
            heads,
            forward: Default::default(),
            checkpointing: false,
            cache: false,
            dtype: Default::default(),
            rank,
            world,
            // The others would have to be there.
            together: false,
        },
    )
}

fn schedule() -> impl Strategy<Value = Schedule> {
    let name =
        prop_oneof![Just(ScheduleName::Constant), Just(ScheduleName::Linear), Just(ScheduleName::Cosine)];
    (name, 0u64..8, proptest::option::weighted(0.3, 1u64..40)).prop_map(|(name, warmup, updates)| Schedule {
        name,
        warmup,
        updates,
    })
}

fn asked() -> impl Strategy<Value = Asked> {
    let tail = prop_oneof![Just(Tail::Flush), Just(Tail::Drop), Just(Tail::Carry)];
    let normaliser = prop_oneof![Just(Normaliser::Tokens), Just(Normaliser::MicroBatches)];
    let first_lr = prop_oneof![Just(FirstLr::Zero), Just(FirstLr::Nonzero)];
    (tail, normaliser, first_lr).prop_map(|(tail, normaliser, first_lr)| Asked {
        tail: Some(tail),
        normaliser: Some(normaliser),
        gradients: None,
        first_lr: Some(first_lr),
    })
}
