//! States that tell more than parameters, moments and buffers: averages, a loss scale, what is frozen, two of one update.

use super::*;

/// Averages that follow the updates; `lost` from the start of the resumed run.
fn averaged(mut events: Vec<Event>, before: u64, lost: bool) -> Vec<Event> {
    for event in &mut events {
        of_state(event, |it| {
            let digest = format!("t:a{}{}", it.step + before, if lost { "anew" } else { "" });
            it.parts.insert("AveragedModel".into(), digest);
            it.parts.insert("copy of the start".into(), format!("t:{before}"));
        });
    }
    events
}

/// The run with an average that is gone with the function that made it, after the last update.
fn gone(mut events: Vec<Event>, at_last: bool) -> Vec<Event> {
    let last = events.iter_mut().rfind(|event| matches!(event, Event::State(_)));
    of_state(last.expect("a state"), |it| it.parts.retain(|_, _| !at_last));
    events
}

#[rstest]
fn an_average_is_held_through_a_resume_and_a_copy_that_never_moves_is_not(
    #[values(false, true)] lost: bool,
    #[values(false, true)] at_last: bool,
) {
    let runs = Runs {
        before: averaged(before(), 0, false),
        resumed: gone(averaged(resumed(2), 2, lost), at_last),
        whole: gone(averaged(whole(), 0, false), at_last),
        repeat: None,
    };
    let broken = runs.judged().broken.map(|it| it.component);
    assert_eq!(broken, lost.then_some(Component::Averages));
}

#[test]
fn a_loss_scale_that_did_not_come_back_is_named() {
    let scaled = |mut events: Vec<Event>, scale: f64| {
        events.iter_mut().for_each(|event| of_state(event, |it| it.scaler = Some(Number(scale))));
        events
    };
    let of = |scale: f64| {
        Runs { resumed: scaled(resumed(2), scale), whole: scaled(whole(), 8.0), ..runs() }.judged().broken
    };
    assert!(of(8.0).is_none());
    assert!(of(65536.0).is_some_and(|it| it.cause.contains("the loss scale did not come back")));
}

#[test]
fn a_state_that_two_updates_share_is_that_of_the_samples_which_follow() {
    // A GradScaler skips update 3: parameters and moments stay those of update 2, and the scale is halved.
    let skipped = |mut events: Vec<Event>| {
        for event in &mut events {
            of_state(event, |it| {
                it.scaler = Some(Number(if it.step == 3 { 4.0 } else { 8.0 }));
                if it.step == 3 {
                    let (tensors, buffers) = match state(Moment::Update, 2, 2) {
                        Event::State(it) => (it.tensors, it.buffers),
                        _ => unreachable!(),
                    };
                    (it.tensors, it.buffers) = (tensors, buffers);
                }
            });
        }
        events
    };
    let mut resumed = resumed(2);
    resumed.iter_mut().for_each(|event| of_state(event, |it| it.scaler = Some(Number(8.0))));
    let sheet = Runs { resumed, whole: skipped(whole()), ..runs() }.judged();
    assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
    assert_eq!(sheet.resumed_from, Some(2));
}

#[test]
fn a_layer_that_is_frozen_again_is_named() {
    let mut events = with(4, |it| of_update(it, |it| it.grad_norm = Some(Number(0.5))));
    of_state(&mut events[1], |it| it.tensors[2].trainable = false);
    let broken = judged(events).broken.unwrap();
    assert!(broken.cause.contains("head trained in the uninterrupted run by then"), "{}", broken.cause);
}

#[test]
fn weights_that_were_swapped_in_when_the_script_saved_are_not_those_of_training() {
    let mut whole = whole();
    let at = whole.iter().position(|it| matches!(it, Event::State(it) if it.step == 2)).unwrap();
    whole.insert(at, state(Moment::Update, 2, 77));
    let mut events = resumed(2);
    events[1] = state(Moment::Start, 0, 77);
    let broken = Runs { resumed: events, whole, ..runs() }.judged().broken.unwrap();
    assert_eq!(broken.component, Component::Checkpoint, "{}", broken.cause);
    assert!(broken.cause.contains("other weights were swapped in"), "{}", broken.cause);
}

#[test]
fn a_layer_that_is_unfrozen_before_the_resume_is_no_fault() {
    let frozen = |mut events: Vec<Event>| {
        of_state(&mut events[1], |it| it.tensors[2].trainable = false);
        events
    };
    let other_digests = |mut events: Vec<Event>| {
        events
            .iter_mut()
            .for_each(|event| of_update(event, |it| it.digest = it.digest.clone().map(|it| it + "of all")));
        events
    };
    let of = |whole: Vec<Event>, before: Vec<Event>| {
        Runs { before, resumed: other_digests(resumed(2)), whole, repeat: None }.judged().broken.is_some()
    };
    assert!(!of(frozen(whole()), frozen(before())));
    assert!(of(whole(), before()), "digests over the same tensors are compared");
}
