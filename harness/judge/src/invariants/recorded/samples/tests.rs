//! Samples of right loops, and wrong ones, each with its cause.

use rstest::rstest;
use traintrue_protocol::contract::Tail;
use traintrue_protocol::trace::event::EndReason;

use super::*;
use crate::invariants::recorded::testing::*;
use crate::testing::{breaks, judge};

fn changed(change: fn(&mut MicroBatch)) -> Vec<Event> {
    let mut events = clean(Shape::default());
    micro_batches(&mut events).for_each(change);
    events
}

fn with(mut events: Vec<Event>, change: fn(&mut Recorded)) -> Vec<Event> {
    change(recorded(&mut events));
    events
}

#[test]
fn one_drawn_batch_in_every_update_breaks_and_two_do_not() {
    let of = |last: u64| {
        let mut events = clean(Shape::default());
        let count = micro_batches(&mut events).count() as u64;
        for (at, it) in micro_batches(&mut events).enumerate() {
            (it.epoch, it.index) = (0, u64::from(at as u64 + last >= count));
            it.samples = Some(vec![3, 4]);
        }
        events.retain(|event| !matches!(event, Event::Epoch(_)));
        events
    };
    let found = breaks(judge(RULE.name, &of(0)), "data");
    assert!(found.contains("draws one batch"), "{found}");
    assert!(judge(RULE.name, &of(1)).broken.is_none());
}

fn unloaded(window: u64, change: fn(&mut MicroBatch)) -> Vec<Event> {
    let mut events = clean(Shape { window, ..Shape::default() });
    micro_batches(&mut events).for_each(|it| it.loader = None);
    micro_batches(&mut events).for_each(change);
    events.retain(|event| !matches!(event, Event::Epoch(_)));
    events
}

/// A second loader trains epochs 1 and 2 in one order.
fn in_stages(order: Order) -> Vec<Event> {
    let mut events = clean(Shape::default());
    for event in &mut events {
        match event {
            Event::Epoch(it) if it.epoch > 0 => (it.loader, it.order) = (Some(1), Some(order)),
            Event::MicroBatch(it) if it.epoch > 0 => {
                it.loader = Some(1);
                it.samples = Some(vec![(2 * it.index + 7) % 20, (2 * it.index + 8) % 20]);
            }
            _ => {}
        }
    }
    events
}

/// Three workers that give the same batches, of two distinct samples each.
fn repeated_by_workers() -> Vec<Event> {
    let stream = |it: &mut Recorded| (it.order, it.stream, it.workers) = (None, Some(true), Some(3));
    let mut events = with(clean(Shape { batches: 12, ..Shape::default() }), stream);
    micro_batches(&mut events).for_each(|it| it.samples = Some(vec![900 + it.index / 3, 950 + it.index / 3]));
    events
}

#[rstest]
#[case::shuffled(clean(Shape { tail: Tail::Carry, ..Shape::default() }))]
#[case::declared_epochs(with(clean(Shape::default()), |it| it.epochs = Some(3)))]
#[case::several_trainings_by_a_framework(with(clean(Shape { epochs: 4, ..Shape::default() }), |it| {
    it.epochs = Some(2);
    it.read = BTreeMap::from([("epochs".to_owned(), "transformers.TrainingArguments".to_owned())]);
}))]
#[case::two_passes_over_each_batch(changed(|it| {
    it.index /= 2;
    it.samples = Some(vec![2 * it.index, 2 * it.index + 1]);
}))]
// Cross-validation: each fold has a new model, and begins with the seed of the one before.
#[case::folds(changed(|it| {
    it.samples = Some(vec![(2 * it.index + 7) % 20, (2 * it.index + 8) % 20]);
    it.optimizers = vec![it.epoch];
}))]
#[case::a_fixed_order_after_a_shuffled_one(in_stages(Order::Other))]
#[case::a_sequential_loader(with(changed(|it| it.samples = Some(vec![2 * it.index, 2 * it.index + 1])),
    |it| it.order = Some(Order::Sequential)))]
#[case::a_sampler_with_weights(with(changed(|it| it.samples = Some(vec![it.index / 2, it.epoch])), |it| {
    it.order = Some(Order::Other);
}))]
#[case::a_last_batch_filled_up(changed(|it| if it.index == 9 { it.samples.as_mut().unwrap()[1] = 5 * (it.epoch + 1); }))]
#[case::a_stream_with_repeats(with(repeated_by_workers(), |it| it.workers = Some(2)))]
#[case::the_whole_dataset_at_once(unloaded(1, |it| it.samples = Some((0..9).collect())))]
fn what_right_loops_do_is_no_accusation(#[case] events: Vec<Event>) {
    let sheet = judge(RULE.name, &events);
    assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
}

#[test]
fn an_order_that_the_evaluations_seed_is_blamed_on_them() {
    let mut events = changed(|it| it.samples = Some(vec![(2 * it.index + 7) % 20, (2 * it.index + 8) % 20]));
    updates(&mut events).for_each(|it| since(it).evaluation_seed = Some(42));
    let found = breaks(judge(RULE.name, &events), "order");
    assert!(found.contains("the evaluation seeds the global random generator with 42"), "{found}");
}

#[rstest]
#[case::same_order_in_a_later_stage(in_stages(Order::Shuffled), "order", "seeded anew for each epoch")]
#[case::same_order(changed(|it| it.samples = Some(vec![(2 * it.index + 7) % 20, (2 * it.index + 8) % 20])), "order",
    "seeded anew for each epoch")]
#[case::workers(repeated_by_workers(), "loader", "get_worker_info()")]
#[case::one_sample(with(changed(|it| it.samples = Some(vec![0, 0])), |it| it.order = Some(Order::Other)), "data",
    "one batch again and again")]
#[case::one_batch_without_a_loader(unloaded(4, |it| it.samples = Some(vec![7, 8])), "data", "not drawn inside the loop")]
#[case::twice(changed(|it| if it.index == 4 { it.samples.as_mut().unwrap()[1] = 5 * (it.epoch + 1); }), "data",
    "a second time")]
#[case::epochs(with(clean(Shape::default()), |it| it.epochs = Some(4)), "loader", "another number of passes")]
fn wrong_samples_break(#[case] events: Vec<Event>, #[case] component: &str, #[case] cause: &str) {
    let found = breaks(judge(RULE.name, &events), component);
    assert!(found.contains(cause), "{found}");
}

#[test]
fn a_loader_that_begins_anew_for_every_batch_is_named() {
    let mut events = with(clean(Shape::default()), |it| it.order = Some(Order::Sequential));
    events.retain(|event| !matches!(event, Event::Epoch(_)));
    for (turn, it) in micro_batches(&mut events).enumerate() {
        (it.epoch, it.index, it.samples) = (turn as u64, 0, Some(vec![0, 1]));
    }
    let found = breaks(judge(RULE.name, &events), "data");
    assert!(found.contains("next(iter(loader))"), "{found}");
}

#[test]
fn epochs_of_an_interrupted_run_are_not_counted() {
    let mut events = with(clean(Shape::default()), |it| it.epochs = Some(4));
    events.pop();
    events.push(end(EndReason::Stopped));
    assert!(judge(RULE.name, &events).broken.is_none());
}
