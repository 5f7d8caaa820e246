//! Which samples a resumed run trains: by index, by content, or by loss and random state; skipped, or in another order.

use super::*;

/// A sampler that skips batches does not show its indices.
#[test]
fn samples_that_one_of_the_runs_knows_by_their_content_only_are_compared_by_that() {
    let of_content = |content: u64| {
        with(2, |it| {
            of_micro_batch(it, |it| (it.samples, it.content, it.rng) = (None, Some(vec![content]), None))
        })
    };
    let sheet = judged(of_content(4));
    assert!(sheet.broken.is_none(), "{sheet:?}");
    let broken = judged(of_content(7)).broken.unwrap();
    assert_eq!(broken.component, Component::Cursor, "{}", broken.cause);
}

#[test]
fn a_random_state_alone_that_nothing_depends_on_is_no_fault() {
    let sheet = judged(with(2, |it| of_micro_batch(it, |it| it.rng = None)));
    assert!(sheet.broken.is_none(), "{sheet:?}");
}

#[test]
fn ids_that_the_recorder_mistook_are_no_fault_where_loss_and_random_state_agree() {
    let sheet = judged(with(2, |it| of_micro_batch(it, |it| it.samples = Some(vec![0, 1]))));
    assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
    let mut mistaken = before();
    of_micro_batch(&mut mistaken[2], |it| it.samples = Some(vec![70, 71]));
    let sheet = Runs { before: mistaken, ..runs() }.judged();
    assert!(sheet.broken.is_none() && sheet.missing.is_none(), "{sheet:?}");
}

#[test]
fn one_micro_batch_too_many_that_is_skipped_is_no_restored_gradient() {
    // The random state is that of the update, and the samples are those of the window's second micro-batch.
    let mut events = resumed(2);
    events.remove(2);
    of_micro_batch(&mut events[2], |it| it.rng = Some("t:r4".into()));
    let broken = judged(events).broken.unwrap();
    assert_eq!(
        (broken.component, broken.cause.contains("skips 1 micro-batch:")),
        (Component::Cursor, true),
        "{}",
        broken.cause
    );
}

/// Cut at the edge of epoch 0, which update 2 ends.
#[rstest]
#[case::epoch_is_skipped(0, Component::Cursor, "epoch 1 is skipped, all 4 micro-batches of it")]
#[case::order_of_the_next_epoch(1, Component::Order, "in the order of epoch 2")]
fn samples_of_the_next_epoch_are_a_skipped_epoch_or_its_order(
    #[case] index: u64,
    #[case] component: Component,
    #[case] cause: &str,
) {
    let mut whole = whole();
    whole.pop();
    whole.extend(trained(8, 12, 0));
    let mut events = resumed(2);
    events.truncate(2);
    events.push(micro_batch(8 + index));
    let mut before = before();
    if index == 1 {
        // A save inside the window: the run goes on from its second micro-batch.
        whole.remove(whole.iter().position(|it| *it == micro_batch(4)).unwrap());
        before.pop();
    }
    let broken = Runs { before, resumed: events, whole, repeat: None }.judged().broken.unwrap();
    assert_eq!(broken.component, component, "{}", broken.cause);
    assert!(broken.cause.contains(cause), "{}", broken.cause);
}
