//! Clean loops of every kind that must hold, and wrong windows, each with its cause.

use rstest::rstest;
use traintrue_protocol::contract::Tail;

use super::*;
use crate::invariants::recorded::testing::*;
use crate::testing::{breaks, judge};

fn held(events: &[Event]) -> Sheet {
    let sheet = judge(RULE.name, events);
    assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
    assert!(sheet.compared > 0, "nothing was compared");
    sheet
}

#[rstest]
#[case::flushed(Shape::default(), "windows of 4 micro-batches")]
#[case::dropped(Shape { tail: Tail::Drop, ..Shape::default() }, "windows of 4 micro-batches")]
#[case::carried(Shape { tail: Tail::Carry, ..Shape::default() }, "windows of 4 micro-batches")]
#[case::one_each(Shape { window: 1, ..Shape::default() }, "windows of 1 micro-batch")]
#[case::longer_than_an_epoch(Shape { window: 16, ..Shape::default() }, "windows of 10 micro-batches")]
fn a_clean_loop_holds(#[case] shape: Shape, #[case] observed: &str) {
    assert_eq!(held(&clean(shape)).observed, [observed]);
}

#[test]
fn the_optimizers_of_a_gan_have_windows_of_their_own() {
    let sheet = held(&gan(5));
    let windows = [
        "windows of 2 micro-batches of optimizer 0 (Adam)",
        "windows of 1 micro-batch of optimizer 1 (Adam)",
    ];
    assert_eq!(sheet.observed, windows);
    assert!(sheet.remarks.is_empty(), "{:?}", sheet.remarks);
}

fn in_each(change: fn(&mut Update)) -> Vec<Event> {
    let mut events = clean(Shape { batches: 24, ..Shape::default() });
    updates(&mut events).for_each(change);
    events
}

fn at(steps: &[u64], change: fn(&mut Update)) -> Vec<Event> {
    let mut events = clean(Shape { batches: 24, ..Shape::default() });
    updates(&mut events).filter(|it| steps.contains(&it.step)).for_each(change);
    events
}

fn holding(it: &mut Update, count: u64) {
    (it.micro_batches, since(it).micro_batches) = (Some(count), count);
}

fn shorter(it: &mut Update) {
    holding(it, 3);
}

#[rstest]
#[case::sharpness_aware({
        let mut events = in_each(|it| { since(it).unused = 1; it.micro_batches = Some(1); });
        crate::invariants::recorded::testing::micro_batches(&mut events).for_each(|it| it.index /= 4);
        events
    })]
#[case::closure(in_each(|it| { since(it).closure = true; since(it).unused = 3; it.micro_batches = Some(1); }))]
#[case::tokens_per_update(in_each(|it| holding(it, 2 + it.step % 4)))]
#[case::growing(at(&[1, 2], |it| holding(it, it.step)))]
#[case::a_loss_that_spiked(at(&[5], |it| { it.micro_batches = Some(3); since(it).unused = 1; }))]
#[case::once_shorter(at(&[5], shorter))]
#[case::gradients_of_a_picture(at(&[2, 5], |it| {
    (since(it).micro_batches, since(it).unused, since(it).evaluations) = (5, 1, 1);
}))]
#[case::the_last(at(&[18], |it| { since(it).epoch_ended = false; shorter(it); }))]
#[case::resumed_inside_a_window(at(&[1], |it| { since(it).loaded = true; holding(it, 1); }))]
fn what_right_loops_do_too_is_no_accusation(#[case] events: Vec<Event>) {
    let sheet = judge(RULE.name, &events);
    assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
}

#[test]
fn an_optimizer_that_climbs_first_clears_a_gradient_of_its_own() {
    let mut events = in_each(|it| {
        since(it).unused = 1;
        since(it).micro_batches = 5;
    });
    recorded(&mut events).optimizers = vec!["SAM".into()];
    assert!(judge(RULE.name, &events).broken.is_none());
}

#[test]
fn a_batch_that_the_loop_skips_makes_its_window_shorter() {
    let mut events = at(&[2], shorter);
    recorded(&mut events).accumulation = Some(4);
    let skipped = |event: &Event| matches!(event, Event::MicroBatch(it) if it.index == 5);
    let skipped = crate::testing::position(&events, skipped);
    events.remove(skipped);
    held(&events);
}

#[rstest]
#[case::never_cleared(in_each(|it| it.micro_batches = Some(4 * it.step)), "window", "zero_grad() is missing")]
#[case::cleared_each_time(in_each(|it| { it.micro_batches = Some(1); since(it).unused = 3; }), "window",
    "clears the gradients of 3 micro-batches before")]
#[case::cleared_before_the_step(in_each(|it| { it.micro_batches = Some(0); since(it).unused = 4; }), "window",
    "between backward() and step()")]
#[case::cleared_by_the_evaluation(at(&[2, 5], |it| {
    (it.micro_batches, since(it).unused, since(it).evaluations) = (Some(2), 2, 1);
}), "window", "the evaluation clears")]
#[case::closed_by_the_evaluation(at(&[2, 5], |it| { shorter(it); since(it).evaluations = 1; }), "boundary",
    "an evaluation inside the window")]
#[case::not_cleared_after_a_skip(at(&[4, 5], |it| match it.step {
    4 => it.applied = false,
    _ => it.micro_batches = Some(8),
}), "window", "the gradients of the skipped update 4")]
fn a_wrong_window_breaks(#[case] events: Vec<Event>, #[case] component: &str, #[case] cause: &str) {
    let found = breaks(judge(RULE.name, &events), component);
    assert!(found.contains(cause), "{found}");
}

#[test]
fn windows_that_close_early_from_the_first_evaluation_on_are_blamed_on_it() {
    // The first is whole; the evaluation cuts the second, and each later one holds a single micro-batch.
    let mut events = in_each(|it| match it.step {
        1 => {}
        2 => (it.micro_batches, since(it).micro_batches, since(it).evaluations) = (Some(3), 3, 1),
        _ => (it.micro_batches, since(it).micro_batches) = (Some(1), 1),
    });
    recorded(&mut events).accumulation = Some(4);
    let found = breaks(judge(RULE.name, &events), "boundary");
    assert!(found.contains("from the first evaluation on"), "{found}");
}

#[test]
fn gradients_that_are_clipped_one_by_one_may_be_kept_elsewhere() {
    let mut events = in_each(|it| (it.micro_batches, since(it).unused) = (Some(1), 3));
    assert!(judge(RULE.name, &events).broken.is_some());
    updates(&mut events).for_each(|it| since(it).clips = vec![clip_call(1.0, 1); 4]);
    let sheet = judge(RULE.name, &events);
    assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
}

#[test]
fn an_epoch_that_is_shorter_than_the_window_is_remarked_upon() {
    let mut events = in_each(|it| (since(it).epoch_ended, it.micro_batches) = (true, Some(4)));
    recorded(&mut events).accumulation = Some(16);
    let sheet = judge(RULE.name, &events);
    assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
    assert!(
        sheet.remarks.iter().any(|it| it.contains("each epoch ends before 16 micro-batches")),
        "{:?}",
        sheet.remarks
    );
}

#[rstest]
#[case::once_is_enough(at(&[5], shorter), "closes early")]
#[case::after_each_micro_batch(in_each(|it| { it.micro_batches = Some(1); since(it).micro_batches = 1; }),
    "after every micro-batch")]
#[case::always(in_each(|it| { it.micro_batches = Some(6); since(it).micro_batches = 6; }), "closes late")]
fn a_declared_accumulation_is_held_strictly(#[case] mut events: Vec<Event>, #[case] cause: &str) {
    recorded(&mut events).accumulation = Some(4);
    let found = breaks(judge(RULE.name, &events), "boundary");
    assert!(found.contains(cause), "{found}");
}

/// The loop steps after micro-batches 0, 4, 8 of each epoch, of which the last may be the end of the epoch.
fn off_by_one(epochs: u64, batches: u64) -> Vec<Event> {
    let mut events = clean(Shape { epochs, batches, ..Shape::default() });
    let steps_at_the_end = batches % 4 == 1;
    let steps: Vec<Event> = events.iter().filter(|it| matches!(it, Event::Update(_))).cloned().collect();
    events.retain(|event| !matches!(event, Event::Update(_)));
    for (turn, mut update) in steps.into_iter().enumerate() {
        let per_epoch = batches.div_ceil(4);
        let (epoch, index) = (turn as u64 / per_epoch, turn as u64 % per_epoch * 4);
        if let Event::Update(it) = &mut update {
            let held = if turn == 0 || (index == 0 && steps_at_the_end) { 1 } else { 4 };
            let edge = if steps_at_the_end { index + 1 == batches } else { index == 0 };
            it.micro_batches = Some(held);
            *since(it) = Since { micro_batches: held, epoch_ended: edge, ..Since::default() };
        }
        let after =
            |event: &Event| matches!(event, Event::MicroBatch(it) if (it.epoch, it.index) == (epoch, index));
        let after = crate::testing::position(&events, after);
        events.insert(after + 1, update);
    }
    events
}

#[rstest]
#[case(1, 24)]
#[case(3, 24)]
#[case::in_short_epochs(3, 13)]
fn a_step_after_the_first_micro_batch_is_named(#[case] epochs: u64, #[case] batches: u64) {
    let found = breaks(judge(RULE.name, &off_by_one(epochs, batches)), "boundary");
    assert!(found.contains("(step + 1) % 4 == 0 is meant"), "{found}");
}

#[test]
fn micro_batches_that_are_left_over_for_the_next_epoch_are_found() {
    let mut events = clean(Shape { tail: Tail::Drop, epochs: 3, ..Shape::default() });
    // Two windows of 4 an epoch, and 2 micro-batches that get no update.
    let leaking: Vec<&mut Update> =
        updates(&mut events).filter(|it| it.step > 1 && it.step % 2 == 1).collect();
    for it in leaking {
        holding(it, 6);
        since(it).unused = 0;
    }
    let found = breaks(judge(RULE.name, &events), "boundary");
    assert!(found.contains("the last 2 micro-batches of an epoch get no update"), "{found}");
}
