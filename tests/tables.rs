//! Schedules and windows of the reference trainer against values that were worked out by hand, beside each case.

use rstest::rstest;
use traintrue_protocol::contract::{FirstLr, Tail};
use traintrue_protocol::plan::{Plan, ScheduleName};

use crate::in_process::{Bench, held, judge, updates};
use crate::inputs::PLAN;

fn plan(samples: usize, batch: u64, accumulation: u64, epochs: u64, tail: Tail) -> Plan {
    let mut plan = Plan::parse(PLAN).unwrap();
    plan.data.samples = (0..samples).map(|at| vec![1, 10 + at as u32 % 20, 2]).collect();
    plan.data.batch = batch;
    plan.data.epochs = epochs;
    plan.train.accumulation = accumulation;
    plan.contract.tail = Some(tail);
    plan
}

#[rstest]
// 7 micro-batches in windows of 3: 3 + 3 + 1 left over at each of two epochs' ends.
#[case::flush(7, 1, 3, Tail::Flush, &[3, 3, 1, 3, 3, 1])]
#[case::drop(7, 1, 3, Tail::Drop, &[3, 3, 3, 3])]
// The one left over begins the next epoch's first window: 14 in all make 4 windows, and 2 are never applied.
#[case::carry(7, 1, 3, Tail::Carry, &[3, 3, 3, 3])]
// 7 samples two at a time are 4 micro-batches: nothing is left over in windows of 2.
#[case::nothing_over(7, 2, 2, Tail::Flush, &[2, 2, 2, 2])]
// 3 micro-batches do not fill a window of 4: one small update an epoch, none, or one over both.
#[case::short_flush(3, 1, 4, Tail::Flush, &[3, 3])]
#[case::short_drop(3, 1, 4, Tail::Drop, &[])]
#[case::short_carry(3, 1, 4, Tail::Carry, &[4])]
fn windows_close_where_they_should(
    #[case] samples: usize,
    #[case] batch: u64,
    #[case] accumulation: u64,
    #[case] tail: Tail,
    #[case] windows: &[u64],
) {
    let bench = Bench::new();
    let trace = bench.train("whole.jsonl", &plan(samples, batch, accumulation, 2, tail));
    let found: Vec<u64> = updates(&trace).iter().map(|update| update.micro_batches.unwrap()).collect();
    assert_eq!(found, windows);
    held(&judge(&[trace], None));
}

#[rstest]
// Two of five updates warm up; the other three fall in thirds.
#[case::linear(ScheduleName::Linear, 2, FirstLr::Nonzero, &[1.0 / 2.0, 1.0, 2.0 / 3.0, 1.0 / 3.0, 0.0])]
// The same a step later: the first update moves nothing, and the last one still does.
#[case::first_zero(ScheduleName::Linear, 2, FirstLr::Zero, &[0.0, 1.0 / 2.0, 1.0, 2.0 / 3.0, 1.0 / 3.0])]
#[case::no_warm_up(ScheduleName::Linear, 0, FirstLr::Nonzero, &[4.0 / 5.0, 3.0 / 5.0, 2.0 / 5.0, 1.0 / 5.0, 0.0])]
// Half a cosine over four updates after one of warm-up: cos 45° is 0.7071, so (1 + 0.7071) / 2, 1/2, (1 - 0.7071) / 2, 0.
#[case::cosine(
    ScheduleName::Cosine, 1, FirstLr::Nonzero,
    &[1.0, 0.853_553_390_593_273_8, 0.5, 0.146_446_609_406_726_2, 0.0]
)]
#[case::constant(ScheduleName::Constant, 4, FirstLr::Nonzero, &[0.25, 0.5, 0.75, 1.0, 1.0])]
// A warm-up longer than the run never ends.
#[case::all_warm_up(ScheduleName::Linear, 10, FirstLr::Nonzero, &[0.1, 0.2, 0.3, 0.4, 0.5])]
fn rates_are_those_worked_out_by_hand(
    #[case] name: ScheduleName,
    #[case] warmup: u64,
    #[case] first_lr: FirstLr,
    #[case] shares: &[f64],
) {
    let mut plan = plan(10, 1, 2, 1, Tail::Flush);
    (plan.train.schedule.name, plan.train.schedule.warmup) = (name, warmup);
    plan.contract.first_lr = Some(first_lr);
    let bench = Bench::new();
    let trace = bench.train("whole.jsonl", &plan);
    let rates: Vec<f64> = updates(&trace).iter().map(|update| update.lr[0].0).collect();
    assert_eq!(rates.len(), shares.len());
    for (rate, share) in rates.iter().zip(shares) {
        assert!((rate - share * 1e-3).abs() < 1e-15, "{rates:?}");
    }
    held(&judge(&[trace], None));
}

#[rstest]
// 13 samples two at a time are 7 micro-batches; three ranks take two each, and one is left out.
#[case(13, 2, 3, &[2, 2, 2])]
// 8 micro-batches for two ranks: 4 each.
#[case(8, 1, 2, &[4, 4])]
fn ranks_share_an_epoch_evenly(
    #[case] samples: usize,
    #[case] batch: u64,
    #[case] world: u64,
    #[case] micro_batches: &[u64],
) {
    let bench = Bench::new();
    let mut seen = Vec::new();
    for rank in 0..world {
        let mut plan = plan(samples, batch, 100, 1, Tail::Flush);
        (plan.train.rank, plan.train.world) = (rank, world);
        let trace = bench.train(&format!("rank-{rank}.jsonl"), &plan);
        assert_eq!(updates(&trace)[0].micro_batches.unwrap(), micro_batches[rank as usize]);
        for event in crate::in_process::events(&trace) {
            if let traintrue_protocol::trace::Event::MicroBatch(it) = event {
                seen.extend(it.samples.unwrap());
            }
        }
        held(&judge(&[trace], None));
    }
    let trained = seen.len();
    seen.sort_unstable();
    seen.dedup();
    assert_eq!(seen.len(), trained, "no sample is trained by two ranks");
}
