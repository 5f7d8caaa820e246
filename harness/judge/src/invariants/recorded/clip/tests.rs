//! Ways to clip that must hold, and wrong ones, each with its cause.

use rstest::rstest;

use super::*;
use crate::invariants::recorded::testing::*;
use crate::testing::{breaks, judge};

/// A loop that clips every update by 1, and then what `change` says.
fn clipped(change: fn(&mut Update)) -> Vec<Event> {
    let mut events = clean(Shape::default());
    for it in updates(&mut events) {
        let held = it.micro_batches.unwrap();
        since(it).clips = vec![clip_call(1.0, held)];
        (it.grad_norm, it.clipped_norm) = (Some(Number(3.0)), Some(Number(1.0)));
        change(it);
    }
    events
}

fn unclipped(it: &mut Update, norm: f64) {
    since(it).clips.clear();
    (it.grad_norm, it.clipped_norm) = (Some(Number(norm)), Some(Number(norm)));
}

fn each_call(it: &mut Update, change: fn(&mut ClipCall)) {
    since(it).clips.iter_mut().for_each(change);
}

#[rstest]
#[case::always(clipped(|_| ()))]
#[case::never(clipped(|it| unclipped(it, 30.0)))]
#[case::where_needed(clipped(|it| if it.step == 5 { unclipped(it, 0.9) }))]
#[case::after_a_warm_up(clipped(|it| if it.step < 3 { unclipped(it, 30.0) }))]
#[case::now_and_then(clipped(|it| if it.step % 2 == 0 { unclipped(it, 30.0) }))]
#[case::by_group(clipped(|it| {
    since(it).clips = vec![ClipCall { whole: false, ..clip_call(1.0, 1) }, ClipCall { whole: false, ..clip_call(1.0, 4) }];
    it.clipped_norm = Some(Number(1.4));
}))]
#[case::by_value(clipped(|it| { each_call(it, |it| it.by_value = true); it.clipped_norm = Some(Number(2.5)); }))]
#[case::by_the_largest(clipped(|it| {
    each_call(it, |it| it.norm_type = Some(Number(f64::INFINITY)));
    it.clipped_norm = Some(Number(2.5));
}))]
#[case::measured_after_the_step_by_a_limit_that_is_never_reached(clipped(|it| {
    unclipped(it, 3.0);
    since(it).clips = vec![ClipCall { used: true, ..clip_call(1e9, 4) }];
}))]
#[case::only_measured(clipped(|it| { let held = it.micro_batches.unwrap(); unclipped(it, 30.0);
    since(it).clips = (1..=held).map(|held| clip_call(f64::INFINITY, held)).collect(); }))]
#[case::measured_after_the_step(clipped(|it| { let used = ClipCall { used: true, ..clip_call(1.0, 4) };
    since(it).clips.insert(0, used); }))]
#[case::a_step_that_is_skipped(clipped(|it| if it.step == 4 { unclipped(it, f64::INFINITY); it.applied = false; }))]
#[case::noise_after_the_clip(clipped(|it| it.clipped_norm = Some(Number(1.3))))]
fn what_right_loops_do_is_no_accusation(#[case] events: Vec<Event>) {
    let sheet = judge(RULE.name, &events);
    assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
}

#[test]
fn the_limit_that_a_loop_uses_is_told() {
    assert_eq!(judge(RULE.name, &clipped(|_| ())).observed, ["clip 1"]);
}

#[rstest]
#[case::per_micro_batch(clipped(|it| { let held = it.micro_batches.unwrap();
    since(it).clips = (1..=held).map(|held| clip_call(1.0, held)).collect(); }), "at every micro-batch")]
#[case::before_backward(clipped(|it| { it.micro_batches = Some(1); each_call(it, |it| it.held = 0); }), "runs before backward()")]
#[case::after_the_gradients_were_cleared(clipped(|it| {
    unclipped(it, 3.0);
    since(it).clips = vec![ClipCall { norm: Some(Number(0.0)), ..clip_call(1.0, 0) }];
}), "after optimizer.step() and zero_grad()")]
#[case::after_the_step(clipped(|it| each_call(it, |it| it.used = true)), "clipped after optimizer.step()")]
#[case::scaled(clipped(|it| each_call(it, |it| it.scaled = true)), "before scaler.unscale_")]
#[case::not_the_tail(clipped(|it| if it.step % 6 == 0 { unclipped(it, 3.0) }), "epoch's last window")]
fn a_wrong_clip_breaks(#[case] events: Vec<Event>, #[case] cause: &str) {
    let found = breaks(judge(RULE.name, &events), "clipper");
    assert!(found.contains(cause), "{found}");
}

#[rstest]
#[case::not_clipped(clipped(|it| if it.step == 5 { unclipped(it, 3.0) }), "did not run before this step")]
#[case::other_limit(clipped(|it| each_call(it, |it| it.limit = Number(5.0))), "by another limit")]
#[case::changed_since(clipped(|it| it.clipped_norm = Some(Number(2.0))), "changed between the clip and the step")]
fn a_declared_clip_is_held_strictly(#[case] mut events: Vec<Event>, #[case] cause: &str) {
    recorded(&mut events).clip = Some(1.0);
    let found = breaks(judge(RULE.name, &events), "clipper");
    assert!(found.contains(cause), "{found}");
}

#[test]
fn a_declared_clip_that_is_kept_holds() {
    let mut events = clipped(|it| {
        if it.step == 5 {
            unclipped(it, 0.9)
        }
    });
    recorded(&mut events).clip = Some(1.0);
    crate::testing::holds(&judge(RULE.name, &events));
}
