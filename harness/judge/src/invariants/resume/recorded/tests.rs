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

mod samples;
mod states;

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
        decay: None,
        digest: format!("t:{name}{update}"),
        moments: (update > 0).then(|| format!("t:m{name}{update}")),
        grad_norm: None,
        sketch: Vec::new(),
    };
    Event::State(Box::new(State {
        tensors: vec![tensor("weight"), tensor("bias"), tensor("head")],
        buffers: [("norm.running_mean".to_owned(), format!("t:b{update}"))].into(),
        ..State::new(at, step)
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
        tensors: Vec::new(),
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

fn whole() -> Vec<Event> {
    let mut events = vec![opening(), state(Moment::Start, 0, 0)];
    events.extend(trained(0, 8, 0));
    events.push(end());
    events
}

/// What `traintrue cut` records for one place.
struct Runs {
    before: Vec<Event>,
    resumed: Vec<Event>,
    whole: Vec<Event>,
    repeat: Option<Vec<Event>>,
}

fn runs() -> Runs {
    Runs { before: before(), resumed: resumed(2), whole: whole(), repeat: None }
}

impl Runs {
    fn judged(&self) -> Sheet {
        let folder = TempDir::new().unwrap();
        let write = |name: &str, events: &[Event]| {
            let path = folder.path().join(name);
            let mut writer = TraceWriter::new(std::fs::File::create(&path).unwrap());
            events.iter().for_each(|event| writer.write(event).unwrap());
            path
        };
        let repeats = self.repeat.iter().map(|it| vec![write("repeat", it)]).collect();
        let evidence = |name: &str, segments, repeats| RunEvidence { name: name.into(), segments, repeats };
        let segments = vec![write("1", &self.before), write("2", &self.resumed)];
        let cut = evidence("cut-5", segments, Vec::new());
        let whole = evidence("whole", vec![write("whole", &self.whole)], repeats);
        compare(find("seam/identical").unwrap(), &cut, Some(&whole))
    }
}

fn judged(resumed: Vec<Event>) -> Sheet {
    Runs { resumed, ..runs() }.judged()
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
#[case::read_and_not_used(
    { let mut events = resumed(0); events.insert(2, loaded("out/2.pt")); events },
    Component::Checkpoint,
    "was put into no model"
)]
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
    with(2, |it| of_micro_batch(it, |it| (it.samples, it.rng) = (Some(vec![10, 11]), Some("t:r8".into())))),
    Component::Cursor,
    "3 micro-batches before"
)]
#[case::data_skipped(
    with(2, |it| of_micro_batch(it, |it| (it.samples, it.rng) = (Some(vec![70, 71]), Some("t:r8".into())))),
    Component::Cursor,
    "skips 3 micro-batches"
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
    with(2, |it| of_micro_batch(it, |it| (it.samples, it.rng) = (Some(vec![5, 6]), Some("t:r8".into())))),
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
    "updates early"
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
    assert_eq!(
        sheet.remarks,
        [
            "a newer complete checkpoint was there and was not taken: out/2.pt, of update 2; the resumed run loaded out/last.pt",
            "resumed from update 1; 1 of 2 updates are done again",
        ]
    );
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
    assert!(broken.cause.contains("its first 1 micro-batch, trained before the cut"), "{}", broken.cause);
}

#[test]
fn a_script_that_is_not_deterministic_is_not_judged() {
    let mut events = before();
    of_micro_batch(&mut events[2], |it| it.backward = Some(Number(7.0)));
    let runs =
        Runs { before: events, resumed: with(4, |it| of_update(it, |it| it.lr = Vec::new())), ..runs() };
    let sheet = runs.judged();
    assert!(sheet.broken.is_none());
    assert!(
        sheet.missing.is_some_and(|why| why.contains("differ at epoch 0, micro-batch 0, before the cut"))
    );
    // One that is not deterministic only after the cut: the whole run was repeated.
    let mut repeat = whole();
    of_update(repeat.iter_mut().rfind(|it| matches!(it, Event::Update(_))).unwrap(), |it| it.digest = None);
    let runs = Runs { repeat: Some(repeat), ..runs };
    let sheet = Runs { before: before(), ..runs }.judged();
    assert!(sheet.broken.is_none());
    assert!(sheet.missing.is_some_and(|why| why.contains("differ at update 4, with no cut")));
}

#[test]
fn a_script_that_trains_otherwise_after_the_signal_is_broken_and_one_that_ends_its_window_is_not() {
    let signalled = |rest: Vec<Event>| {
        let mut events = before();
        let Event::Run(it) = &mut events[0] else { unreachable!() };
        it.recorded.as_mut().unwrap().cut_after = Some(5);
        events.extend(rest);
        Runs { before: events, ..runs() }.judged()
    };
    let sheet = signalled(trained(5, 6, 0));
    assert!(sheet.broken.is_none() && sheet.missing.is_none(), "{sheet:?}");
    // It makes its third update of six micro-batches where the window has two more.
    let flushed = vec![micro_batch(5), update(3, 3), state(Moment::Update, 3, 3), update(4, 9)];
    let broken = signalled(flushed).broken.unwrap();
    assert_eq!(broken.component, Component::Boundary);
    assert!(broken.cause.contains("an update of the open window"), "{}", broken.cause);
}
