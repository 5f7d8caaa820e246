//! Two healthy ranks of the synthetic plan, and what breaks each invariant over them.

use rstest::rstest;
use traintrue_protocol::number::Number;
use traintrue_protocol::plan::Train;
use traintrue_protocol::trace::Event;
use traintrue_protocol::trace::event::Dropped;
use traintrue_protocol::trace::recorded::Recorded;
use traintrue_protocol::vocabulary::Moment;

use super::testing::judge_ranks;
use crate::testing::*;

/// One run: for each rank its segments.
type Ranks = Vec<Vec<Vec<Event>>>;

/// Samples of the second rank, which the first does not have.
const SHIFT: u64 = 6;

/// The events of one process, as each of two ranks of one run has them.
fn as_ranks(segments: &[Vec<Event>]) -> Ranks {
    (0..2).map(|rank| segments.iter().map(|events| as_rank(events.clone(), rank)).collect()).collect()
}

fn as_rank(mut events: Vec<Event>, rank: u64) -> Vec<Event> {
    for event in &mut events {
        match event {
            Event::Run(run) => {
                run.plan.train = Train { together: true, world: 2, rank, ..run.plan.train.clone() };
            }
            Event::MicroBatch(it) => {
                // Each sample on one rank: the even ids on the first, the odd ones on the second.
                it.samples = Some(
                    (0..2).map(|at| 2 * (2 * it.index + at) + rank).filter(|id| *id < 4 * SHIFT).collect(),
                );
                it.dropout = Some(vec![Dropped {
                    units: 1024,
                    dropped: 100,
                    scale: Number(1.0 / 0.9),
                    positions: 8,
                    masks: 8,
                    digest: format!("mask:{rank}-{}-{}", it.epoch, it.index),
                }]);
            }
            Event::State(state) => {
                state.rng = Some(format!("stream:{rank}-{}", state.step));
                state.window_digest = Some(format!("window:{rank}-{}", state.step));
            }
            Event::Evaluation(it) => {
                let (sum, weight) = if rank == 0 { (2.0, 4.0) } else { (3.0, 6.0) };
                it.samples = Some(if rank == 0 { vec![0, 2] } else { vec![1] });
                it.losses.truncate(1);
                it.losses[0].name = "lm".into();
                (it.losses[0].sum, it.losses[0].weight) = (Number(sum), Number(weight));
                it.metric = Some(Number(0.5));
            }
            _ => {}
        }
    }
    events
}

fn pair() -> Ranks {
    as_ranks(&[whole()])
}

fn second(ranks: &mut Ranks) -> &mut Vec<Event> {
    &mut ranks[1][0]
}

#[rstest]
#[case("ranks/in-step")]
#[case("ranks/one-model")]
#[case("ranks/own-dropout")]
#[case("ranks/evaluate-once")]
fn healthy_ranks_hold(#[case] rule: &str) {
    let sheet = judge_ranks(rule, &pair(), None);
    holds(&sheet);
    assert!(sheet.compared > 0);
}

#[rstest]
#[case::an_update_less("ranks/in-step", |events: &mut Vec<Event>| {
    let last = events.iter().rposition(|event| matches!(event, Event::Update(_))).unwrap();
    events.remove(last);
}, "boundary", "rank 1 makes fewer updates")]
#[case::a_micro_batch_less("ranks/in-step", |events: &mut Vec<Event>| {
    events.remove(position(events, |event| matches!(event, Event::MicroBatch(_))));
}, "boundary", "different numbers of micro-batches")]
#[case::another_rate("ranks/in-step", |events: &mut Vec<Event>| update_at(events, 2).lr[0] = Number(0.5), "schedule", "different learning rates")]
#[case::another_decay("ranks/in-step", |events: &mut Vec<Event>| update_at(events, 2).decay = vec![Number(0.5)], "optimizer-groups", "different weight decays")]
#[case::a_step_skipped("ranks/in-step", |events: &mut Vec<Event>| update_at(events, 2).applied = false, "reduction", "one rank skips")]
#[case::other_initial_weights("ranks/one-model", |events: &mut Vec<Event>| {
    state_at(events, Moment::Start).tensors[1].digest = "other".into();
}, "replicas", "begin with different values")]
#[case::parted("ranks/one-model", |events: &mut Vec<Event>| {
    state_at(events, Moment::Update).tensors[1].digest = "other".into();
}, "replicas", "applied other gradients")]
#[case::other_moments("ranks/one-model", |events: &mut Vec<Event>| {
    state_at(events, Moment::Update).tensors[2].moments = Some("other".into());
}, "moments", "different moments")]
#[case::parted_after_an_update("ranks/one-model", |events: &mut Vec<Event>| {
    update_at(events, 2).digest = Some("other".into());
}, "replicas", "not a copy of rank 0 any more after update 2")]
#[case::one_mask("ranks/own-dropout", |events: &mut Vec<Event>| {
    batch_at(events, 0, 2).dropout.as_mut().unwrap()[0].digest = "mask:0-0-2".into();
}, "seeding", "from one stream")]
#[case::evaluated_twice("ranks/evaluate-once", |events: &mut Vec<Event>| {
    evaluation(events).samples = Some(vec![1, 2]);
}, "evaluation", "sample 2 is evaluated on ranks 0 and 1")]
#[case::left_out("ranks/evaluate-once", |events: &mut Vec<Event>| evaluation(events).samples = Some(vec![]), "evaluation", "no rank evaluates sample 1")]
#[case::another_mean("ranks/evaluate-once", |events: &mut Vec<Event>| evaluation(events).metric = Some(Number(0.7)), "evaluation", "not the mean over the targets of all ranks")]
fn the_second_rank_breaks(
    #[case] rule: &str,
    #[case] change: fn(&mut Vec<Event>),
    #[case] component: &str,
    #[case] cause: &str,
) {
    let mut ranks = pair();
    change(second(&mut ranks));
    let sheet = judge_ranks(rule, &ranks, None);
    let rank = sheet.broken.as_ref().map(|broken| broken.rank);
    // An update that the second rank lacks is in the trace of the first.
    assert_eq!(rank, Some(usize::from(!cause.contains("fewer updates"))));
    let found = breaks(sheet, component);
    assert!(found.contains(cause), "{found}");
}

fn evaluation(events: &mut [Event]) -> &mut traintrue_protocol::trace::event::Evaluation {
    let found = events.iter_mut().find_map(|event| match event {
        Event::Evaluation(it) => Some(it),
        _ => None,
    });
    found.unwrap()
}

#[test]
fn a_tensor_that_stands_still_on_one_rank_is_named_before_those_that_part_with_it() {
    let mut ranks = pair();
    let still = state_at(second(&mut ranks), Moment::Start).tensors[2].clone();
    let state = state_at(second(&mut ranks), Moment::Update);
    state.tensors[1].digest = "parted".into();
    state.tensors[2].digest = still.digest;
    let found = breaks(judge_ranks("ranks/one-model", &ranks, None), "optimizer-groups");
    assert!(found.contains(&format!("{} did not change on rank 1", still.name)), "{found}");
}

#[test]
fn a_rank_that_resumes_from_its_own_state_holds_and_from_another_ranks_breaks() {
    let mut ranks = as_ranks(&cut_at(at(0, 4)));
    for (rank, segments) in ranks.iter_mut().enumerate() {
        let saved = |what: &str| Some(format!("{what}:{rank}-saved"));
        let state = state_at(&mut segments[0], Moment::End);
        (state.rng, state.window_digest) = (saved("stream"), saved("window"));
        let state = state_at(&mut segments[1], Moment::Loaded);
        (state.rng, state.window_digest) = (saved("stream"), saved("window"));
    }
    holds(&judge_ranks("ranks/own-state", &ranks, None));
    state_at(&mut ranks[1][1], Moment::Loaded).rng = Some("stream:0-saved".into());
    let found = breaks(judge_ranks("ranks/own-state", &ranks, None), "rng");
    assert!(found.contains("rank 1 goes on with the random stream of rank 0"), "{found}");
}

/// Ranks whose samples are these, micro-batch by micro-batch.
fn with_samples(of: fn(rank: u64, index: u64) -> Vec<u64>) -> Ranks {
    let mut ranks = pair();
    for (rank, segments) in ranks.iter_mut().enumerate() {
        for event in segments.iter_mut().flatten() {
            match event {
                Event::Run(run) => run.plan.data.samples = vec![vec![9; 4]; 28],
                Event::MicroBatch(it) => it.samples = Some(of(rank as u64, it.index)),
                _ => {}
            }
        }
    }
    ranks
}

#[rstest]
#[case::disjoint(|rank, index| vec![4 * index + rank, 4 * index + 2 + rank], None)]
#[case::the_same(|_, index| vec![4 * index, 4 * index + 2], Some("14 samples of rank 1 are trained on another rank"))]
#[case::one_twice(|rank, index| vec![4 * index + rank, 4 * index + 2 + rank * u64::from(index != 3)], Some("1 samples of rank 1"))]
#[case::too_few(|rank, index| vec![4 * index + rank], Some("do not train the samples that reach all of them"))]
fn ranks_share_the_samples_out(#[case] of: fn(u64, u64) -> Vec<u64>, #[case] cause: Option<&str>) {
    let sheet = judge_ranks("ranks/each-sample-once", &with_samples(of), None);
    match cause {
        None => holds(&sheet),
        Some(cause) => {
            let found = breaks(sheet, "data");
            assert!(found.contains(cause), "{found}");
        }
    }
}

#[test]
fn recorded_ranks_whose_loaders_give_other_samples_may_draw_the_same_noise() {
    let mut ranks =
        with_samples(|rank, index| (100 * rank + 4 * index..100 * rank + 4 * index + 4).collect());
    for (rank, segments) in ranks.iter_mut().enumerate() {
        let Event::Run(run) = &mut segments[0][0] else { panic!("a run line") };
        run.recorded = Some(Recorded { rank: Some(rank as u64), world: Some(2), ..Recorded::default() });
        for event in segments.iter_mut().flatten() {
            if let Event::MicroBatch(it) = event {
                it.content = Some((4 * it.index..4 * it.index + 4).collect());
            }
        }
    }
    holds(&judge_ranks("ranks/each-sample-once", &ranks, None));
}

#[rstest]
#[case::in_one_order(|_, index| (4 * index..4 * index + 4).collect(), true)]
#[case::shifted(|rank, index| (4 * index + rank..4 * index + 4 + rank).collect(), false)]
#[case::one_sample_again_and_again(|_, _| vec![3, 3], false)]
fn recorded_ranks_that_take_the_same_samples_in_one_order_break(
    #[case] of: fn(u64, u64) -> Vec<u64>,
    #[case] broken: bool,
) {
    let mut ranks = with_samples(of);
    for (rank, segments) in ranks.iter_mut().enumerate() {
        let Event::Run(run) = &mut segments[0][0] else { panic!("a run line") };
        run.recorded = Some(Recorded { rank: Some(rank as u64), world: Some(2), ..Recorded::default() });
        for event in segments.iter_mut().flatten() {
            if let Event::MicroBatch(it) = event {
                // The indices say nothing: each rank may have a dataset of its own.
                it.content = it.samples.replace(vec![0]);
            }
        }
    }
    let sheet = judge_ranks("ranks/each-sample-once", &ranks, None);
    assert_eq!(sheet.broken.is_some(), broken, "{sheet:?}");
}
