//! What must be true of every plan, shown on random ones: the reference trainer runs in this process, core judges it.

use std::collections::BTreeMap;
use std::path::PathBuf;

use proptest::prelude::*;
use proptest::test_runner::{Config, RngSeed};
use traintrue::check::Relation;
use traintrue_protocol::contract::{Contract, FirstLr, Tail};
use traintrue_protocol::plan::{Plan, ScheduleName, Start, Stop};
use traintrue_protocol::trace::Event;
use traintrue_protocol::trace::event::{Cursor, State};
use traintrue_protocol::vocabulary::Moment;

use crate::in_process::{Bench, events, held, judge, state, updates};
use crate::strategies::{cut_plan, micro_batches, padding, plan, row_probes};

/// The same cases on every machine; a failure is shown as it is, for a smaller plan says little more.
pub fn config(cases: u32) -> Config {
    Config {
        cases,
        rng_seed: RngSeed::Fixed(2026),
        max_shrink_iters: 64,
        failure_persistence: None,
        ..Config::default()
    }
}

/// The plan up to the cut, and the plan from there on.
fn cut_in_two(bench: &Bench, plan: &Plan, cut: Cursor) -> [PathBuf; 2] {
    let folder = bench.path("checkpoints");
    let (epoch, micro_batches) = (cut.epoch, cut.micro_batches);
    let first = Plan {
        run: "cut".into(),
        stop: Some(Stop { epoch, micro_batches, save: Some(folder.clone()) }),
        ..plan.clone()
    };
    let second = Plan {
        run: "cut".into(),
        start: Some(Start { from: folder, what: Default::default() }),
        ..plan.clone()
    };
    [bench.train("cut.1.jsonl", &first), bench.train("cut.2.jsonl", &second)]
}

/// A state without its own place in the trace, and without the last gradients, which no checkpoint holds.
pub fn essence(state: State) -> State {
    let mut state = State { at: Moment::Start, ..state };
    state.tensors.iter_mut().for_each(|tensor| tensor.grad_norm = None);
    state
}

proptest! {
    #![proptest_config(config(64))]

    #[test]
    fn a_run_cut_anywhere_and_resumed_is_the_whole_run_bit_for_bit((plan, cut) in cut_plan()) {
        let bench = Bench::new();
        let whole = bench.train("whole.jsonl", &plan);
        let halves = cut_in_two(&bench, &plan, cut);
        let compared = held(&judge(&halves, Some((&whole, Relation::Seam))));
        prop_assert!(compared["seam/identical"] > 0);
    }

    #[test]
    fn a_checkpoint_taken_anywhere_is_loaded_as_it_was_saved((plan, cut) in cut_plan()) {
        let bench = Bench::new();
        let [before, after] = cut_in_two(&bench, &plan, cut);
        prop_assert_eq!(essence(state(&before, Moment::End)), essence(state(&after, Moment::Loaded)));
    }

    #[test]
    fn every_sample_that_is_consumed_is_in_exactly_one_update(plan in plan()) {
        let bench = Bench::new();
        let trace = bench.train("whole.jsonl", &plan);
        let compared = held(&judge(std::slice::from_ref(&trace), None));
        prop_assert!(compared["ledger/every-sample-once"] > 0);

        // Micro-batches go into the window that is open; an update takes all of it, an epoch's end what the tail rule says.
        let (mut open, mut taken) = (BTreeMap::new(), BTreeMap::new());
        for event in events(&trace) {
            match event {
                Event::MicroBatch(it) => {
                    for id in it.samples.unwrap() {
                        *open.entry((it.epoch, id)).or_insert(0u32) += 1;
                    }
                }
                Event::Update(_) => taken.append(&mut open),
                Event::Epoch(_) if plan.contract.tail == Some(Tail::Drop) => open.clear(),
                _ => {}
            }
        }
        prop_assert!(taken.values().all(|&times| times == 1));
        if plan.contract.tail == Some(Tail::Flush) {
            let short = plan.data.drop_last || plan.train.world > 1;
            let expected = plan.data.samples.len() as u64 * plan.data.epochs;
            prop_assert!(open.is_empty());
            prop_assert!(short || taken.len() as u64 == expected);
        }
    }

    #[test]
    fn the_rate_of_every_update_is_the_closed_form(plan in plan()) {
        let bench = Bench::new();
        let trace = bench.train("whole.jsonl", &plan);
        let contract = plan.contract.over(Contract::default());
        let updates = updates(&trace);
        let total = plan.train.schedule.updates.unwrap_or(updates.len() as u64) as f64;
        let warmup = plan.train.schedule.warmup as f64;
        for update in &updates {
            let x = update.step as f64 - if contract.first_lr == FirstLr::Zero { 1.0 } else { 0.0 };
            let done = ((x - warmup) / (total - warmup).max(1.0)).min(1.0);
            let share = match plan.train.schedule.name {
                _ if x < warmup => x / warmup,
                ScheduleName::Constant => 1.0,
                ScheduleName::Linear => 1.0 - done,
                ScheduleName::Cosine => (1.0 + (std::f64::consts::PI * done).cos()) / 2.0,
            };
            let expected = plan.train.optimizer.lr * share;
            prop_assert!((update.lr[0].0 - expected).abs() <= 1e-12 * plan.train.optimizer.lr);
        }
        held(&judge(&[trace], None));
    }

    #[test]
    fn a_row_does_not_depend_on_its_neighbours(plan in plan(), padding in padding()) {
        let bench = Bench::new();
        let probes = row_probes(&plan, padding);
        let stop = Some(Stop { epoch: 0, micro_batches: micro_batches(&plan).min(1), save: None });
        let trace = bench.train("probed.jsonl", &Plan { probes, stop, ..plan });
        prop_assert!(held(&judge(&[trace], None))["rows/independent"] > 0);
    }
}
