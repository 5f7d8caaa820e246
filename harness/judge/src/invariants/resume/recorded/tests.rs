//! A recorded script of two epochs of four micro-batches, in windows of two: cut, resumed, and wrong in one thing.

use rstest::rstest;
use tempfile::TempDir;
use traintrue_protocol::contract::Contract;
use traintrue_protocol::number::Number;
use traintrue_protocol::plan::example;
use traintrue_protocol::trace::event::{
    Checkpoint, CheckpointEdge, End, EndReason, MicroBatch, Run, State, TensorState, Update,
};
use traintrue_protocol::trace::recorded::Recorded;
use traintrue_protocol::trace::{Event, TraceWriter};
use traintrue_protocol::vocabulary::{Component, Moment};

use crate::case::compare;
use crate::finding::Sheet;
use crate::rule::RunEvidence;
use crate::rules::find;

fn opening() -> Event {
    let recorded: Recorded = serde_json::from_str(r#"{"optimizers": ["AdamW"]}"#).unwrap();
    Event::Run(Box::new(Run {
        schema: 1,
        trainer: "torch".into(),
        device: "cpu".into(),
        scenario: "recorded".into(),
        run: "recorded".into(),
        plan: recorded.plan("recorded", "recorded").unwrap_or_else(|_| example()),
        recorded: Some(recorded),
        contract: Contract::default(),
    }))
}

fn state(at: Moment, step: u64, update: u64) -> Event {
    let tensor = |name: &str| TensorState {
        name: name.into(),
        group: "base".into(),
        shape: vec![2],
        dtype: "f32".into(),
        trainable: true,
        optimized: true,
        digest: format!("t:{name}{update}"),
        moments: (update > 0).then(|| format!("t:m{name}{update}")),
        grad_norm: None,
        sketch: Vec::new(),
    };
    Event::State(Box::new(State {
        at,
        step,
        tensors: vec![tensor("weight"), tensor("bias"), tensor("head")],
        parts: Default::default(),
        buffers: [("norm.running_mean".to_owned(), format!("t:b{update}"))].into(),
        rng: None,
        schedule_step: None,
        cursor: None,
        window: None,
        window_digest: None,
        best: None,
        scaler: None,
        ema: None,
    }))
}

fn micro_batch(at: u64) -> Event {
    Event::MicroBatch(MicroBatch {
        epoch: at / 4,
        index: at % 4,
        samples: Some(vec![10 * at, 10 * at + 1]),
        backward: Some(Number(1.0 / (at + 1) as f64)),
        rng: Some(format!("t:r{at}")),
        content: Some(vec![at]),
        ..MicroBatch::default()
    })
}

fn update(step: u64, of: u64) -> Event {
    Event::Update(Update {
        step,
        micro_batches: Some(2),
        targets: None,
        lr: vec![Number(0.1 * of as f64)],
        grad_norm: Some(Number(1.0 + of as f64)),
        clipped_norm: None,
        applied: true,
        digest: Some(format!("t:d{of}")),
        optimizer: Some(0),
        decay: Vec::new(),
        since: None,
    })
}

/// Micro-batches `from` to `to`, with the updates and states of their windows; `done` updates are another process's.
fn trained(from: u64, to: u64, done: u64) -> Vec<Event> {
    (from..to)
        .flat_map(|at| {
            let of = at.div_ceil(2);
            let closes = at % 2 == 1;
            let window = closes.then(|| [update(of - done, of), state(Moment::Update, of - done, of)]);
            std::iter::once(micro_batch(at)).chain(window.into_iter().flatten())
        })
        .collect()
}

fn saved(step: u64, path: &str) -> Event {
    let checkpoint = Checkpoint::new(CheckpointEdge::Saved, step, (0, 2 * step), path);
    Event::Checkpoint(Checkpoint { whole: Some(true), ..checkpoint })
}

fn loaded(path: &str) -> Event {
    Event::Checkpoint(Checkpoint::new(CheckpointEdge::Loaded, 0, (0, 0), path))
}

fn end() -> Event {
    Event::End(End::new(EndReason::Done, None))
}

/// The process that is cut after five micro-batches, inside the third window; it has saved update 2.
fn before() -> Vec<Event> {
    let mut events = vec![opening(), state(Moment::Start, 0, 0)];
    events.extend(trained(0, 4, 0));
    events.push(saved(1, "out/1.pt"));
    events.push(saved(2, "out/2.pt"));
    events.extend(trained(4, 5, 0));
    events
}

/// The process that goes on from an update.
fn resumed(from: u64) -> Vec<Event> {
    let mut events = vec![opening(), state(Moment::Start, 0, from)];
    events.extend(trained(2 * from, 8, from));
    events.extend((from > 0).then(|| loaded(&format!("out/{from}.pt"))));
    events.push(end());
    events
}

fn judged(resumed: Vec<Event>) -> Sheet {
    let folder = TempDir::new().unwrap();
    let write = |name: &str, events: &[Event]| {
        let path = folder.path().join(name);
        let mut writer = TraceWriter::new(std::fs::File::create(&path).unwrap());
        events.iter().for_each(|event| writer.write(event).unwrap());
        path
    };
    let mut whole = vec![opening(), state(Moment::Start, 0, 0)];
    whole.extend(trained(0, 8, 0));
    whole.push(end());
    let evidence = |name: &str, segments| RunEvidence { name: name.into(), segments, repeats: Vec::new() };
    let cut = evidence("cut-5", vec![write("1", &before()), write("2", &resumed)]);
    compare(find("seam/identical").unwrap(), &cut, Some(&evidence("whole", vec![write("whole", &whole)])))
}

#[test]
fn a_run_that_goes_on_from_its_last_checkpoint_is_held_and_says_what_is_done_again() {
    let sheet = judged(resumed(2));
    assert!(sheet.broken.is_none() && sheet.compared > 8, "{sheet:?}");
    assert!(sheet.remarks.is_empty(), "{:?}", sheet.remarks);
}

/// Replaces one event of a run that goes on from update 2: 1 is the state, 2 and 3 are micro-batches, 4 the update.
fn with(at: usize, edit: impl FnOnce(&mut Event)) -> Vec<Event> {
    let mut events = resumed(2);
    edit(&mut events[at]);
    events
}

fn of_micro_batch(event: &mut Event, edit: impl FnOnce(&mut MicroBatch)) {
    if let Event::MicroBatch(it) = event {
        edit(it);
    }
}

fn of_state(event: &mut Event, edit: impl FnOnce(&mut State)) {
    if let Event::State(it) = event {
        edit(it);
    }
}

fn of_update(event: &mut Event, edit: impl FnOnce(&mut Update)) {
    if let Event::Update(it) = event {
        edit(it);
    }
}

#[rstest]
#[case::older_checkpoint(resumed(1), Component::CheckpointStore, "took an older checkpoint")]
#[case::nothing_loaded(resumed(0), Component::Checkpoint, "loaded nothing")]
#[case::no_moments(
    with(1, |it| of_state(it, |it| it.tensors.iter_mut().for_each(|it| it.moments = None))),
    Component::Moments,
    "its moments begin anew"
)]
#[case::moments_of_another_tensor(
    with(1, |it| of_state(it, |it| it.tensors[0].moments = it.tensors[1].moments.clone())),
    Component::Moments,
    "another order of parameters"
)]
#[case::head_left_out(
    with(1, |it| of_state(it, |it| it.tensors[2].digest = "t:fresh".into())),
    Component::CheckpointSections,
    "missing in the checkpoint"
)]
#[case::other_weights(
    with(1, |it| of_state(it, |it| it.tensors.iter_mut().for_each(|it| it.digest += "average"))),
    Component::Checkpoint,
    "averaged weights"
)]
#[case::buffers(
    with(1, |it| of_state(it, |it| it.buffers.values_mut().for_each(|it| *it = "t:fresh".into()))),
    Component::CheckpointSections,
    "running statistics"
)]
#[case::data_begin_again(
    with(2, |it| of_micro_batch(it, |it| it.samples = Some(vec![10, 11]))),
    Component::Cursor,
    "3 micro-batches before"
)]
#[case::data_skipped(
    with(2, |it| of_micro_batch(it, |it| it.samples = Some(vec![70, 71]))),
    Component::Cursor,
    "3 micro-batches are skipped"
)]
#[case::order_of_the_first_epoch(
    with(2, |it| of_micro_batch(it, |it| (it.samples, it.rng) = (Some(vec![0, 1]), Some("t:r9".into())))),
    Component::Order,
    "in the order of epoch 0"
)]
#[case::random_state_of_the_start(
    with(2, |it| of_micro_batch(it, |it| (it.samples, it.rng) = (Some(vec![0, 1]), Some("t:r0".into())))),
    Component::Rng,
    "the random state is that of epoch 0, micro-batch 0 again"
)]
#[case::augmented_otherwise(
    with(2, |it| of_micro_batch(it, |it| (it.content, it.rng, it.backward) = (Some(vec![1]), None, Some(Number(9.0))))),
    Component::Rng,
    "augmentation"
)]
#[case::other_order(
    with(2, |it| of_micro_batch(it, |it| it.samples = Some(vec![5, 6]))),
    Component::Order,
    "another order"
)]
#[case::other_masks(
    with(2, |it| of_micro_batch(it, |it| { it.rng = None; it.backward = Some(Number(9.0)); })),
    Component::Rng,
    "dropout draws other masks"
)]
#[case::other_loss(
    with(2, |it| of_micro_batch(it, |it| it.backward = Some(Number(9.0)))),
    Component::CheckpointSections,
    "an adapter's scale"
)]
#[case::schedule(
    with(4, |it| of_update(it, |it| it.lr = vec![Number(0.1)])),
    Component::Schedule,
    "the rate of update 1"
)]
#[case::gradients(
    with(4, |it| of_update(it, |it| it.grad_norm = Some(Number(0.5)))),
    Component::Window,
    "the gradients are not"
)]
#[case::settings(
    with(4, |it| of_update(it, |it| it.digest = Some("t:other".into()))),
    Component::Optimizer,
    "betas"
)]
#[case::early_end(
    { let mut events = resumed(2); events.truncate(6); events.push(end()); events },
    Component::Step,
    "counted from the resume"
)]
fn a_resume_that_goes_wrong_is_broken_by_its_cause(
    #[case] resumed: Vec<Event>,
    #[case] component: Component,
    #[case] cause: &str,
) {
    let sheet = judged(resumed);
    let broken = sheet.broken.unwrap_or_else(|| panic!("held: {:?}", sheet.missing));
    assert_eq!(broken.component, component, "{}", broken.cause);
    assert!(broken.cause.contains(cause), "{}", broken.cause);
}

/// A file of another name is another series: the best weights, an export at the end.
#[test]
fn a_newer_file_that_the_script_does_not_resume_from_is_no_fault() {
    let mut events = resumed(1);
    let at = events.len() - 2;
    events[at] = loaded("out/last.pt");
    let sheet = judged(events);
    assert!(sheet.broken.is_none(), "{sheet:?}");
    assert_eq!(sheet.remarks, ["resumed from update 1; 1 of 2 updates are done again"]);
}

/// A sampler that skips batches does not show its indices.
#[test]
fn samples_that_one_of_the_runs_knows_by_their_content_only_are_compared_by_that() {
    let of_content = |content: u64| {
        with(2, |it| of_micro_batch(it, |it| (it.samples, it.content) = (None, Some(vec![content]))))
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
fn gradients_of_the_open_window_that_were_saved_are_held_and_lost_ones_are_not() {
    // The script saves inside a window: the resumed process begins with the window's second micro-batch.
    let inside = || {
        let mut events = resumed(2);
        events.remove(2);
        events
    };
    assert!(judged(inside()).broken.is_none());
    let mut lost = inside();
    of_update(&mut lost[3], |it| it.grad_norm = Some(Number(0.5)));
    let broken = judged(lost).broken.unwrap();
    assert!(broken.cause.contains("1 micro-batches before the cut are lost"), "{}", broken.cause);
}

#[test]
fn a_script_that_is_not_deterministic_is_not_judged() {
    let mut events = before();
    of_micro_batch(&mut events[2], |it| it.backward = Some(Number(7.0)));
    let folder = TempDir::new().unwrap();
    let path = folder.path().join("1");
    let mut writer = TraceWriter::new(std::fs::File::create(&path).unwrap());
    events.iter().for_each(|event| writer.write(event).unwrap());
    let history = super::history::History::read(&path).unwrap();
    let whole: Vec<_> = trained(0, 8, 0);
    let write = folder.path().join("2");
    let mut writer = TraceWriter::new(std::fs::File::create(&write).unwrap());
    std::iter::once(&opening()).chain(&whole).for_each(|event| writer.write(event).unwrap());
    let whole = super::history::History::read(&write).unwrap();
    let place = super::compared::first_difference(&history.steps, &whole.steps);
    assert_eq!(place.as_deref(), Some("epoch 0, micro-batch 0"));
}
