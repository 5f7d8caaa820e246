//! Recorded loops for the tests of these rules: clean ones of several kinds, in which a test changes one thing.

use traintrue_protocol::contract::{Contract, Tail};
use traintrue_protocol::number::Number;
use traintrue_protocol::trace::Event;
use traintrue_protocol::trace::event::{
    End, EndReason, Epoch, Evaluation, Loss, MicroBatch, Run, TensorState, Update,
};
use traintrue_protocol::trace::recorded::{Order, Recorded};
use traintrue_protocol::trace::since::{ClipCall, Modes, Since};

/// Samples per micro-batch.
pub(super) const BATCH: u64 = 2;

/// A loop with one loader and one optimizer.
#[derive(Clone, Copy)]
pub(crate) struct Shape {
    pub epochs: u64,
    /// Micro-batches per epoch.
    pub batches: u64,
    /// Micro-batches per update.
    pub window: u64,
    pub tail: Tail,
}

impl Default for Shape {
    /// Windows of 4, 4 and 2 in each of three epochs.
    fn default() -> Self {
        Self { epochs: 3, batches: 10, window: 4, tail: Tail::Flush }
    }
}

/// What a recorder sees of such a loop, with nothing declared.
pub(super) fn facts(shape: Shape) -> Recorded {
    Recorded {
        samples: Some(shape.batches * BATCH),
        batch: Some(BATCH),
        lr: Some(1e-2),
        order: Some(Order::Shuffled),
        optimizers: vec!["AdamW".into()],
        ..Recorded::default()
    }
}

/// The first line of a recording.
pub(super) fn run(recorded: Recorded) -> Event {
    Event::Run(Box::new(Run {
        schema: 1,
        trainer: "synthetic 1".into(),
        device: "cpu".into(),
        scenario: "recorded".into(),
        run: "recorded".into(),
        plan: recorded.plan("recorded", "recorded").expect("a stand-in plan"),
        recorded: Some(recorded),
        contract: Contract::default(),
    }))
}

pub(super) fn end(reason: EndReason) -> Event {
    Event::End(End::new(reason, None))
}

/// The clean trace of the shape, to be changed.
pub(crate) fn clean(shape: Shape) -> Vec<Event> {
    let mut events = vec![run(facts(shape))];
    let (mut step, mut since) = (0, Since::default());
    // Micro-batches in the gradients.
    let mut held = 0;
    for epoch in 0..shape.epochs {
        events.push(Event::Epoch(Epoch { loader: Some(0), ..Epoch::begin(epoch) }));
        for index in 0..shape.batches {
            events.push(micro_batch(shape, epoch, index));
            (held, since.micro_batches) = (held + 1, since.micro_batches + 1);
            let is_last = index + 1 == shape.batches;
            since.epoch_ended |= is_last;
            if held == shape.window || (is_last && shape.tail == Tail::Flush) {
                step += 1;
                let since = std::mem::take(&mut since);
                events.push(update(step, held, since));
                held = 0;
            }
        }
        if shape.tail == Tail::Drop {
            since.unused += held;
            held = 0;
        }
        events.push(Event::Epoch(Epoch { loader: Some(0), ..Epoch::end(epoch) }));
    }
    events.push(end(EndReason::Done));
    events
}

/// A generator and a discriminator, without a loader. The generator's backward reaches the discriminator too, which clears
/// these gradients.
pub(super) fn gan(updates: u64) -> Vec<Event> {
    let recorded = Recorded { optimizers: vec!["Adam".into(), "Adam".into()], ..facts(Shape::default()) };
    let mut events = vec![run(recorded)];
    let half = |index: u64, optimizers: &[u64]| {
        let batch = MicroBatch { loader: None, optimizers: optimizers.to_vec(), ..plain(0, index, 0.7, 1) };
        Event::MicroBatch(batch)
    };
    for turn in 0..updates {
        events.extend([half(3 * turn, &[0]), half(3 * turn + 1, &[0])]);
        let before = u64::from(turn > 0);
        events.push(update(2 * turn + 1, 2, Since { micro_batches: 2 + before, ..Since::default() }));
        events.push(half(3 * turn + 2, &[0, 1]));
        let mut generator = update(2 * turn + 2, 1, Since { micro_batches: 1, ..Since::default() });
        if let Event::Update(it) = &mut generator {
            it.optimizer = Some(1);
        }
        events.push(generator);
    }
    events.push(end(EndReason::Done));
    events
}

fn micro_batch(shape: Shape, epoch: u64, index: u64) -> Event {
    let size = shape.batches * BATCH;
    let samples = (index * BATCH..(index + 1) * BATCH).map(|at| (at + 5 * (epoch + 1)) % size);
    let loss = 2.0 + 0.01 * index as f64;
    Event::MicroBatch(MicroBatch {
        samples: Some(samples.collect()),
        ..plain(epoch, index, loss, shape.window)
    })
}

fn plain(epoch: u64, index: u64, loss: f64, window: u64) -> MicroBatch {
    MicroBatch {
        epoch,
        index,
        samples: Some(vec![1000 + 2 * index, 1001 + 2 * index]),
        losses: vec![Loss::new("loss", loss * 8.0, 8)],
        loader: Some(0),
        backward: Some(Number(loss / window as f64)),
        optimizers: vec![0],
        modes: Some(Modes { training: 3, evaluation: 0, model: Some(true), drifting: None }),
        ..Default::default()
    }
}

fn update(step: u64, held: u64, since: Since) -> Event {
    Event::Update(Update {
        step,
        micro_batches: Some(held),
        lr: vec![Number(1e-2)],
        grad_norm: Some(Number(0.5)),
        clipped_norm: Some(Number(0.5)),
        since: Some(Box::new(Since { rescaled: Some(Number(1.0)), ..since })),
        ..Default::default()
    })
}

/// An evaluation after that many updates, in evaluation mode.
pub(super) fn evaluation(step: u64) -> Event {
    let modes = Modes { training: 0, evaluation: 3, model: Some(false), drifting: None };
    let losses = vec![Loss::new("loss", 4.0, 2)];
    Event::Evaluation(Evaluation { step, losses, modes: Some(modes), ..Default::default() })
}

/// The facts of the first line, to be changed.
pub(super) fn recorded(events: &mut [Event]) -> &mut Recorded {
    let Some(Event::Run(run)) = events.first_mut() else { panic!("a trace begins with its run") };
    run.recorded.as_mut().expect("a recording")
}

pub(super) fn updates(events: &mut [Event]) -> impl Iterator<Item = &mut Update> {
    events.iter_mut().filter_map(|event| if let Event::Update(it) = event { Some(it) } else { None })
}

/// What the recorder saw since the update before, to be changed.
pub(super) fn since(it: &mut Update) -> &mut Since {
    it.since.as_mut().expect("a recorder's update")
}

pub(super) fn micro_batches(events: &mut [Event]) -> impl Iterator<Item = &mut MicroBatch> {
    events.iter_mut().filter_map(|event| if let Event::MicroBatch(it) = event { Some(it) } else { None })
}

/// A tensor of two values in a state.
pub(super) fn tensor(name: &str, trainable: bool, optimized: bool) -> TensorState {
    TensorState {
        name: name.into(),
        group: "base".into(),
        shape: vec![2],
        dtype: "f32".into(),
        trainable,
        optimized,
        decay: None,
        digest: "t:1".into(),
        moments: None,
        grad_norm: None,
        sketch: Vec::new(),
    }
}

/// A call of `clip_grad_norm_` before the step, on gradients of norm 3 that hold so many micro-batches.
pub(super) fn clip_call(limit: f64, held: u64) -> ClipCall {
    ClipCall {
        limit: Number(limit),
        norm: Some(Number(3.0)),
        norm_type: None,
        held,
        used: false,
        scaled: false,
        by_value: false,
        whole: true,
    }
}
