//! Optimizers of right loops, and wrong ones, each with its cause.

use rstest::rstest;

use traintrue_protocol::trace::event::{End, EndReason};

use super::*;
use crate::invariants::recorded::testing::*;
use crate::testing::{breaks, judge};

/// A loop whose last state has these tensors: name, trainable, held. Those that are not held have a gradient.
fn with(tensors: &[(&str, bool, bool)], change: fn(&mut Update)) -> Vec<Event> {
    let mut events = clean(Shape::default());
    updates(&mut events).for_each(change);
    let tensors = tensors.iter().map(|&(name, trains, held)| TensorState {
        grad_norm: (!held).then_some(Number(1.0)),
        ..tensor(name, trains, held)
    });
    let tensors = tensors.collect();
    let state = State {
        at: Moment::End,
        step: 9,
        tensors,
        buffers: Default::default(),
        parts: Default::default(),
        rng: None,
        schedule_step: None,
        cursor: None,
        window: None,
        window_digest: None,
        best: None,
        scaler: None,
        ema: None,
    };
    let end = events.len() - 1;
    events.insert(end, Event::State(Box::new(state)));
    events
}

const HELD: [(&str, bool, bool); 3] =
    [("a.weight", true, true), ("a.bias", true, true), ("b.weight", false, false)];

#[rstest]
#[case::all_held(with(&HELD, |_| ()))]
#[case::a_head_alone(with(&[("a.weight", true, false), ("a.bias", true, false), ("head.weight", true, true)], |_| ()))]
#[case::frozen_and_held(with(&[("a.weight", false, true), ("head.weight", true, true)], |_| ()))]
#[case::made_again_once(with(&HELD, |it| since(it).remade = it.step == 4))]
#[case::made_again_with_a_state(with(&HELD, |it| (since(it).remade, since(it).loaded) = (true, true)))]
#[case::sharded(with(&HELD, |it| since(it).micro_batches = 0))]
fn what_right_loops_do_is_no_accusation(#[case] events: Vec<Event>) {
    crate::testing::holds(&judge(RULE.name, &events));
}

#[test]
fn what_no_forward_uses_may_be_left_out() {
    let mut events = with(&[("a.weight", true, true), ("a.bias", true, true), ("gain", true, false)], |_| ());
    let at = events.len() - 2;
    let Event::State(last) = &mut events[at] else { panic!("a state") };
    last.tensors[2].grad_norm = None;
    let sheet = judge(RULE.name, &events);
    assert!(sheet.broken.is_none() && !sheet.remarks.is_empty(), "{sheet:?}");
}

#[test]
fn an_optimizer_per_task_is_no_accusation() {
    let mut events = with(&HELD, |it| since(it).remade = it.step % 3 == 1);
    micro_batches(&mut events).for_each(|it| it.loader = Some(it.epoch));
    crate::testing::holds(&judge(RULE.name, &events));
}

#[rstest]
#[case::per_epoch(with(&HELD, |it| since(it).remade = it.step > 1 && it.step % 3 == 1), "moments", "begin anew at update 4")]
#[case::a_head_added_later(with(&[("a.weight", true, true), ("a.bias", true, true), ("head.weight", true, false)], |_| ()),
    "optimizer-groups", "made without head.weight")]
#[case::replaced(with(&HELD, |it| { since(it).micro_batches = 0; (it.micro_batches, it.grad_norm) = (Some(0), None); }),
    "optimizer-groups", "holds none of the parameters")]
fn a_wrong_optimizer_breaks(#[case] events: Vec<Event>, #[case] component: &str, #[case] cause: &str) {
    let found = breaks(judge(RULE.name, &events), component);
    assert!(found.contains(cause), "{found}");
}

#[rstest]
#[case::as_declared(&[("q.weight", false, false), ("q.lora_a", true, true)], None)]
#[case::base_trains(&[("q.weight", true, true), ("q.lora_a", true, true)], Some("does not match"))]
#[case::adapter_frozen(&[("q.weight", false, false), ("q.lora_a", false, false)], Some("the tensor matches"))]
fn a_declared_pattern_is_held_strictly(#[case] tensors: &[(&str, bool, bool)], #[case] cause: Option<&str>) {
    let mut events = with(tensors, |_| ());
    recorded(&mut events).trainable = vec!["lora_*".into()];
    let broken = judge(RULE.name, &events).broken.map(|it| it.cause);
    assert_eq!(broken.is_some(), cause.is_some(), "{broken:?}");
    assert!(broken.unwrap_or_default().contains(cause.unwrap_or_default()));
}

#[rstest]
#[case("lora_*", "layers.0.q.lora_a.default.weight", true)]
#[case("*.bias", "layers.0.bias", true)]
#[case("layers.?.q", "layers.0.q", true)]
#[case("q", "layers.0.q", true)]
#[case("q", "layers.0.qk", false)]
#[case("a*b*c", "abbcb", false)]
fn a_pattern_begins_at_any_dot(#[case] pattern: &str, #[case] name: &str, #[case] expected: bool) {
    assert_eq!(names(pattern, name), expected);
}

#[rstest]
#[case::in_a_run_that_came_to_its_end(EndReason::Done, Some("step() of optimizer 1 (Adam) never runs"))]
#[case::in_an_interrupted_run(EndReason::Stopped, None)]
fn an_optimizer_that_never_steps_is_named(#[case] reason: EndReason, #[case] cause: Option<&str>) {
    let mut events = with(&HELD, |_| ());
    recorded(&mut events).optimizers = vec!["AdamW".into(), "Adam".into()];
    *events.last_mut().unwrap() = Event::End(End { idle: vec![1], ..End::new(reason, None) });
    let broken = judge(RULE.name, &events).broken.map(|it| it.cause);
    assert_eq!(broken.is_some(), cause.is_some(), "{broken:?}");
    assert!(broken.unwrap_or_default().contains(cause.unwrap_or_default()));
}

#[test]
fn stages_of_several_epochs_with_rates_of_their_own_are_remarked_upon() {
    let mut events = clean(Shape { epochs: 6, ..Shape::default() });
    for it in updates(&mut events) {
        since(it).remade = it.step == 7 || it.step == 13;
        it.lr = vec![Number(0.1 / (1 + (it.step - 1) / 6) as f64)];
    }
    let sheet = judge(RULE.name, &events);
    assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
    assert!(sheet.remarks.iter().any(|it| it.contains("made 2 times")), "{:?}", sheet.remarks);
}

/// A loop whose weights are held, and whose biases are in no optimizer; they had this digest at the start.
fn without_biases(began: &str) -> Vec<Event> {
    let names = [
        ("a.weight", true),
        ("a.bias", false),
        ("b.weight", true),
        ("b.bias", false),
        ("norm.weight", false),
    ];
    let mut events = with(&names.map(|(name, held)| (name, true, held)), |_| ());
    let at = events.len() - 2;
    let Event::State(last) = &mut events[at] else { panic!("a state") };
    last.tensors.iter_mut().filter(|it| it.optimized).for_each(|it| it.shape = vec![2, 2]);
    let mut start = State { at: Moment::Start, step: 0, ..State::clone(last) };
    start.tensors.iter_mut().for_each(|it| it.digest = began.into());
    events.insert(1, Event::State(Box::new(start)));
    events
}

#[test]
fn vectors_that_stand_still_beside_their_matrices_were_left_out() {
    let found = breaks(judge(RULE.name, &without_biases("t:1")), "optimizer-groups");
    assert!(found.contains("a group is missing"), "{found}");
    // What moves is trained by something else than an optimizer of torch's.
    let moved = judge(RULE.name, &without_biases("t:0"));
    assert!(moved.broken.is_none() && !moved.remarks.is_empty(), "{moved:?}");
}
