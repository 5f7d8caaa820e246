//! Runs that are cut, and go on as the whole run or otherwise.

use rstest::rstest;
use traintrue_protocol::vocabulary::Moment;

use super::*;
use crate::finding::Broken;
use crate::testing::*;
use traintrue_protocol::number::Number;

fn broken(segments: &[Vec<Event>]) -> Broken {
    judge_runs(RULE.name, segments, &[whole()]).broken.expect("a finding")
}

#[rstest]
#[case::mid_window(cut_at(at(0, 4)))]
#[case::after_an_update(cut_at(at(0, 3)))]
#[case::at_an_epoch_edge(cut_at(at(0, 7)))]
#[case::in_the_second_epoch(cut_at(at(1, 5)))]
#[case::not_cut(vec![whole()])]
#[case::cut_twice(vec![
    segment(&plan(), None, Some(at(0, 4))),
    segment(&plan(), Some(at(0, 4)), Some(at(1, 1))),
    segment(&plan(), Some(at(1, 1)), None),
])]
#[case::ends_early(vec![segment(&plan(), None, Some(at(0, 4))), segment(&plan(), Some(at(0, 4)), Some(at(1, 1)))])]
fn a_healthy_seam_holds(#[case] segments: Vec<Vec<Event>>) {
    holds(&judge_runs(RULE.name, &segments, &[whole()]));
}

#[test]
fn a_lost_window_is_named_with_its_samples() {
    let mut segments = cut_at(at(0, 4));
    let update = position(&segments[1], |event| matches!(event, Event::Update(_)));
    // The update moves, its state with it, from micro-batch 5 to 6, where it holds the 3 since the cut.
    let moved: Vec<Event> = segments[1].drain(update..update + 2).collect();
    let last = position(&segments[1], |event| matches!(event, Event::MicroBatch(it) if it.index == 6));
    segments[1].splice(last + 1..last + 1, moved);
    let restored = segments.clone();
    state_at(&mut segments[1], Moment::Loaded).window = Some(0);
    let found = broken(&segments);
    assert_eq!((found.segment, found.component), (1, Component::Boundary));
    assert_eq!(found.actual, "an update after epoch 0, micro-batch 6, with 3 micro-batches");
    assert!(
        found.cause.starts_with("the partial window was lost at the cut: 1 micro-batch,"),
        "{}",
        found.cause
    );
    assert!(found.cause.contains("samples 6, 7"), "{}", found.cause);

    // Where the window came back and only its count did not, nothing was lost.
    let found = broken(&restored);
    assert!(found.cause.ends_with("are in the update too"), "{}", found.cause);
}

#[rstest]
#[case::window(|events: &mut Vec<Event>| state_at(events, Moment::Loaded).window = Some(0), "boundary")]
#[case::rng(|events: &mut Vec<Event>| state_at(events, Moment::Loaded).rng = Some("t:x".into()), "rng")]
#[case::schedule(|events: &mut Vec<Event>| state_at(events, Moment::Loaded).schedule_step = Some(0), "schedule")]
#[case::step(|events: &mut Vec<Event>| state_at(events, Moment::Loaded).step = 9, "step")]
#[case::moments(|events: &mut Vec<Event>| state_at(events, Moment::Loaded).tensors[1].moments = None, "moments")]
#[case::values(|events: &mut Vec<Event>| state_at(events, Moment::Loaded).tensors[2].digest = "t:x".into(), "adapter-loader")]
fn a_state_that_is_not_the_saved_one_is_the_cause(
    #[case] change: fn(&mut Vec<Event>),
    #[case] component: &str,
    #[values(false, true)] moves_on: bool,
) {
    let mut segments = cut_at(at(0, 4));
    change(&mut segments[1]);
    if moves_on {
        batch_at(&mut segments[1], 0, 5).losses[0].sum = Number(0.5);
    }
    let found = broken(&segments);
    assert_eq!((found.segment, found.component.name(), found.at.event.as_str()), (1, component, "state"));
}

#[test]
fn what_came_back_in_the_place_of_another_is_told() {
    let mut segments = cut_at(at(0, 4));
    let loaded = &mut state_at(&mut segments[1], Moment::Loaded).tensors;
    loaded[2].digest = loaded[1].digest.clone();
    assert!(broken(&segments).cause.starts_with("a tensor came back with the values of another"));
}

#[rstest]
#[case::loss(|events: &mut Vec<Event>| batch_at(events, 0, 5).losses[0].sum = Number(0.5), "rng")]
#[case::lr(|events: &mut Vec<Event>| update_at(events, 3).lr[0] = Number(0.5), "schedule")]
#[case::step(|events: &mut Vec<Event>| update_at(events, 3).step = 4, "step")]
#[case::gradient(|events: &mut Vec<Event>| update_at(events, 2).grad_norm = Some(Number(0.5)), "window")]
#[case::moments(|events: &mut Vec<Event>| update_at(events, 2).digest = Some("t:x".into()), "moments")]
#[case::partial(|events: &mut Vec<Event>| update_at(events, 2).micro_batches = Some(2), "boundary")]
#[case::skipped(|events: &mut Vec<Event>| {
    let at = position(events, |event| matches!(event, Event::MicroBatch(_)));
    events.remove(at);
}, "cursor")]
#[case::early(|events: &mut Vec<Event>| {
    let at = position(events, |event| matches!(event, Event::Update(_)));
    events.swap(at, at - 1);
}, "boundary")]
#[case::replayed(|events: &mut Vec<Event>| {
    let earlier = batch_at(&mut whole(), 0, 2).samples.clone();
    batch_at(events, 1, 2).samples = earlier;
}, "order")]
#[case::offset(|events: &mut Vec<Event>| {
    let later = batch_at(events, 0, 5).samples.clone();
    batch_at(events, 0, 4).samples = later;
}, "cursor")]
#[case::unseeded(|events: &mut Vec<Event>| batch_at(events, 1, 2).samples = Some(vec![1, 8]), "order")]
#[case::done_early(|events: &mut Vec<Event>| {
    let end = events.pop().expect("an end");
    let at = position(events, |event| matches!(event, Event::MicroBatch(it) if it.epoch == 1));
    events.truncate(at);
    events.push(end);
}, "cursor")]
fn a_resumed_run_that_differs_breaks(#[case] change: fn(&mut Vec<Event>), #[case] component: &str) {
    let mut segments = cut_at(at(0, 4));
    change(&mut segments[1]);
    let found = broken(&segments);
    assert_eq!((found.segment, found.component.name()), (1, component), "{found:?}");
}

#[test]
fn a_part_of_the_state_that_is_not_restored_is_named() {
    let mut segments = cut_at(at(0, 4));
    let part =
        |digest: &str| [("buffers", "t:1"), ("scheduler", digest)].map(|(a, b)| (a.into(), b.into())).into();
    state_at(&mut segments[0], Moment::End).parts = part("t:2");
    state_at(&mut segments[1], Moment::Loaded).parts = part("t:2");
    holds(&judge_runs(RULE.name, &segments, &[whole()]));
    state_at(&mut segments[1], Moment::Loaded).parts = part("t:3");
    let found = broken(&segments);
    assert_eq!(found.component.name(), "checkpoint-sections");
    assert!(found.actual.contains("scheduler: t:3"), "{found:?}");
}

#[test]
fn two_runs_that_lose_the_same_number_agree_and_one_that_loses_it_alone_does_not() {
    let (mut segments, mut other) = (cut_at(at(0, 4)), whole());
    batch_at(&mut segments[1], 1, 2).losses[0].sum = Number(f64::NAN);
    breaks(judge_runs(RULE.name, &segments, std::slice::from_ref(&other)), "numerics");
    batch_at(&mut other, 1, 2).losses[0].sum = Number(f64::NAN);
    holds(&judge_runs(RULE.name, &segments, &[other]));
}

#[test]
fn a_trainer_that_is_not_deterministic_is_not_judged_by_bits() {
    let mut segments = cut_at(at(0, 4));
    for segment in &mut segments {
        if let Event::Run(run) = &mut segment[0] {
            run.contract.deterministic = false;
        }
    }
    batch_at(&mut segments[1], 0, 5).losses[0].sum = Number(0.5);
    let sheet = judge_runs(RULE.name, &segments, &[whole()]);
    assert!(sheet.broken.is_none() && sheet.missing.is_some_and(|why| why.contains("not deterministic")));
}
