//! Two ranks whose gradients are combined rightly and wrongly.

use rstest::rstest;
use traintrue_protocol::plan::Train;
use traintrue_protocol::trace::Event;
use traintrue_protocol::trace::event::{Loss, Run, Update};
use traintrue_protocol::trace::recorded::Recorded;

use super::super::testing::judge_ranks;
use super::*;
use crate::testing::*;

const WINDOW: usize = 3;
const PLACES: usize = 8;
const TENSORS: [&str; 3] = ["a", "b", "c"];
/// Targets of each micro-batch, by rank.
const TARGETS: [[f64; WINDOW]; 2] = [[4.0, 2.0, 6.0], [8.0, 3.0, 7.0]];
const ALL: f64 = 30.0;

/// What one micro-batch adds to a place of a tensor: the same for every test, and different everywhere.
fn added(rank: usize, index: usize, tensor: usize, place: usize) -> f64 {
    ((rank * 41 + index * 17 + tensor * 7 + place * 5) as f64).powi(2).sin()
}

/// The weight of a micro-batch in what a rank applies: (rank that applies, rank of the micro-batch, its index).
type Weight = fn(usize, usize, usize) -> f64;

/// The combination of a tensor's gradients with these weights. Each backward pass ran on its mean's share, so that the
/// mean over the ranks is right.
fn combined(applies: usize, tensor: usize, weight: Weight, of: fn(usize, usize) -> usize) -> Vec<Number> {
    let sum = |place: usize| -> f64 {
        let parts = (0..2).flat_map(|rank| (0..WINDOW).map(move |index| (rank, index)));
        let one =
            |(rank, index)| weight(applies, rank, index) / 2.0 * added(rank, index, of(rank, tensor), place);
        parts.map(one).sum()
    };
    (0..PLACES).map(|place| Number(sum(place))).collect()
}

fn rank(applies: usize, weight: Weight, of: fn(usize, usize) -> usize) -> Vec<Event> {
    let mut events = whole();
    events.truncate(1);
    if let Event::Run(run) = &mut events[0] {
        let run: &mut Run = run;
        run.plan.train = Train { together: true, world: 2, rank: applies as u64, ..run.plan.train.clone() };
    }
    for (index, targets) in TARGETS[applies].into_iter().enumerate() {
        let sum = 1.5 * targets;
        events.push(Event::MicroBatch(MicroBatch {
            index: index as u64,
            losses: vec![Loss { name: "lm".into(), sum: Number(sum), weight: Number(targets) }],
            backward: Some(Number(sum * 2.0 / ALL)),
            ..MicroBatch::default()
        }));
    }
    let tensors = (0..TENSORS.len()).map(|tensor| TensorStep {
        name: TENSORS[tensor].into(),
        shape: vec![PLACES as u64],
        added: (0..WINDOW)
            .map(|index| (0..PLACES).map(|place| Number(added(applies, index, tensor, place))).collect())
            .collect(),
        unclipped: combined(applies, tensor, weight, of),
        ..TensorStep::default()
    });
    events.push(Event::Update(Update { tensors: tensors.collect(), ..update() }));
    events
}

fn update() -> Update {
    let mut events = whole();
    Update { step: 1, ..update_at(&mut events, 1).clone() }
}

fn ranks(weight: Weight, of: fn(usize, usize) -> usize) -> Vec<Vec<Vec<Event>>> {
    (0..2).map(|applies| vec![rank(applies, weight, of)]).collect()
}

fn in_place(_: usize, tensor: usize) -> usize {
    tensor
}

#[test]
fn the_mean_over_all_targets_of_all_ranks_holds() {
    let sheet = judge_ranks(RULE.name, &ranks(|_, _, _| 1.0, in_place), None);
    holds(&sheet);
    assert_eq!(sheet.compared, 6);
}

#[rstest]
#[case::summed(|_, _, _| 2.0, "reduction", "2.00 times the mean over the ranks: the ranks are summed")]
#[case::twice(|_, _, _| 0.5, "reduction", "0.50 times the mean over the ranks: the mean over the ranks is divided")]
#[case::alone(|own, rank, _| if own == rank { 2.0 } else { 0.0 }, "reduction", "rank 0 applies its own gradients alone")]
#[case::broadcast(|_, rank, _| if rank == 0 { 2.0 } else { 0.0 }, "reduction", "every rank applies the gradients of rank 0")]
#[case::last_alone(|own, rank, index| match (index == 2, own == rank) {
    (true, true) => 2.0,
    (true, false) => 0.0,
    _ => 1.0,
}, "reduction", "the last micro-batch of the window is averaged nowhere")]
#[case::middle_lost(|_, _, index| if index == 1 { 0.0 } else { 1.0 }, "reduction", "micro-batch 2 of the window is not in")]
#[case::means_of_means(|_, rank, _| if rank == 0 { 15.0 / 12.0 } else { 15.0 / 18.0 }, "normaliser", "12 and 18 targets")]
#[case::clipped(|_, rank, _| if rank == 0 { 0.5 } else { 0.7 }, "clipper", "scaled before they were averaged (rank 0 0.50, rank 1 0.70)")]
#[case::divided_by_one_ranks_targets(|_, _, _| 1.25, "reduction", "1.25 times the mean over the ranks: the divisor takes rank 0's number")]
#[case::weighted(|_, rank, _| if rank == 0 { 1.3 } else { 0.7 }, "reduction", "other weights in the mean")]
#[case::by_micro_batch(|_, _, index| [1.5, 1.0, 0.5][index], "reduction", "the micro-batches of the ranks have other weights")]
fn another_combination_breaks_and_is_named(
    #[case] weight: Weight,
    #[case] component: &str,
    #[case] cause: &str,
) {
    let found = breaks(judge_ranks(RULE.name, &ranks(weight, in_place), None), component);
    assert!(found.contains(cause), "{found}");
}

/// What every rank applies to one tensor, in the place of the mean.
fn applied(tensor: usize, change: impl Fn(usize, Vec<Number>) -> Vec<Number>) -> Vec<Vec<Vec<Event>>> {
    let mut ranks = ranks(|_, _, _| 1.0, in_place);
    for (rank, events) in ranks.iter_mut().map(|segments| &mut segments[0]).enumerate() {
        let told = &mut update_at(events, 1).tensors[tensor];
        told.unclipped = change(rank, std::mem::take(&mut told.unclipped));
    }
    ranks
}

#[test]
fn a_tensor_that_is_left_out_of_the_mean_is_named() {
    let own: Weight = |own, rank, _| if own == rank { 2.0 } else { 0.0 };
    let left_out = applied(1, |rank, _| combined(rank, 1, own, in_place));
    let found = breaks(judge_ranks(RULE.name, &left_out, None), "reduction");
    assert!(found.contains("in 1 of 3 tensors (b), rank 0 applies its own gradients alone"), "{found}");
}

#[test]
fn gradients_that_are_rounded_to_bf16_are_named() {
    let round = |it: Number| Number(f64::from(f32::from_bits((it.0 as f32).to_bits() & 0xFFFF_0000)));
    let rounded = applied(2, |_, mean| mean.into_iter().map(round).collect());
    let found = breaks(judge_ranks(RULE.name, &rounded, None), "reduction");
    assert!(found.contains("no more digits than bf16 keeps, in 1 of 3 tensors (c)"), "{found}");
}

#[test]
fn gradients_of_another_tensor_are_named() {
    let exchanged = |rank, tensor| if rank == 1 && tensor < 2 { 1 - tensor } else { tensor };
    let found = breaks(judge_ranks(RULE.name, &ranks(|_, _, _| 1.0, exchanged), None), "reduction");
    assert!(found.contains("the gradient of a has rank 1's gradient of b in it"), "{found}");
}

#[test]
fn what_is_no_combination_is_said_to_be_none() {
    let mut ranks = ranks(|_, _, _| 1.0, in_place);
    for rank in &mut ranks {
        let update = update_at(&mut rank[0], 1);
        update.tensors[1].unclipped.iter_mut().enumerate().for_each(|(at, it)| it.0 = (at * at) as f64);
    }
    let found = breaks(judge_ranks(RULE.name, &ranks, None), "reduction");
    assert!(
        found.contains("no weighted sum of the micro-batches' gradients of the ranks, in 1 of 3 tensors (b)"),
        "{found}"
    );
}

#[test]
fn ranks_that_do_not_tell_what_they_added_are_not_judged() {
    let mut ranks = ranks(|_, _, _| 1.0, in_place);
    update_at(&mut ranks[1][0], 1).tensors.iter_mut().for_each(|it| it.added.clear());
    let sheet = judge_ranks(RULE.name, &ranks, None);
    assert!(sheet.is_blind && sheet.broken.is_none());
}

#[rstest]
#[case::the_mean(|_, _, _| 1.0, None)]
#[case::scaled_afterwards(|_, _, _| 0.25, None)]
#[case::alone(|own, rank, _| if own == rank { 2.0 } else { 0.0 }, Some("rank 0 applies its own gradients alone"))]
#[case::one_rank_scaled(|_, rank, _| if rank == 1 { 0.5 } else { 1.0 }, Some("scaled before they were averaged"))]
fn recorded_ranks_need_one_weight_whichever(#[case] weight: Weight, #[case] cause: Option<&str>) {
    let mut ranks = ranks(weight, in_place);
    for rank in &mut ranks {
        let Event::Run(run) = &mut rank[0][0] else { panic!("a run line") };
        run.recorded = Some(Recorded { rank: Some(0), world: Some(2), ..Recorded::default() });
    }
    let sheet = judge_ranks(RULE.name, &ranks, None);
    match cause {
        None => holds(&sheet),
        Some(cause) => {
            let found = breaks(sheet, if cause.contains("scaled") { "clipper" } else { "reduction" });
            assert!(found.contains(cause), "{found}");
        }
    }
}

#[test]
fn recorded_ranks_may_average_by_hand_after_their_backward_passes() {
    let alone: Weight = |own, rank, _| if own == rank { 2.0 } else { 0.0 };
    let mut ranks = ranks(alone, in_place);
    for (applies, rank) in ranks.iter_mut().enumerate() {
        let Event::Run(run) = &mut rank[0][0] else { panic!("a run line") };
        run.recorded = Some(Recorded { rank: Some(0), world: Some(2), ..Recorded::default() });
        for (tensor, told) in update_at(&mut rank[0], 1).tensors.iter_mut().enumerate() {
            told.gradient = combined(applies, tensor, |_, _, _| 1.0, in_place);
        }
    }
    holds(&judge_ranks(RULE.name, &ranks, None));
}
