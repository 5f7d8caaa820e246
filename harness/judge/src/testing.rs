//! Synthetic traces for the tests of the invariants: a healthy run is a function of its plan, and a test changes one
//! thing.
//!
//! Every value is a function of the place in training, so a resumed segment agrees with the whole run by construction.

use std::path::PathBuf;

use tempfile::TempDir;
use traintrue_logs::Precision;
use traintrue_protocol::contract::{Asked, Contract};
use traintrue_protocol::number::Number;
use traintrue_protocol::plan::*;
use traintrue_protocol::trace::event::{
    Checkpoint, CheckpointEdge, Cursor, End, EndReason, Epoch, Evaluation, Loss, Memory, MicroBatch,
    ProbeGradient, ProbeRow, Run, State, TensorState, Update,
};
use traintrue_protocol::trace::{Event, Line, TraceWriter};
use traintrue_protocol::vocabulary::Moment;

use crate::arithmetic::{self, Counts, Rates};
use crate::finding::Sheet;
use crate::rule::{Kind, Opening, RunEvidence};
use crate::rules::find;

pub fn contract() -> Contract {
    Contract { rows_per_sample: 3, ..Contract::default() }
}

/// 13 samples in 7 micro-batches, windows of 3: updates after 3, 6 and, as the tail, 7; two epochs, 6 updates.
pub fn plan() -> Plan {
    let probe = |name: &str, samples: &[u64], at| Probe {
        name: name.into(),
        at,
        samples: samples.to_vec(),
        padding: None,
        dtype: None,
        cached: false,
        gradients: true,
    };
    Plan {
        schema: SCHEMA,
        scenario: "synthetic".into(),
        run: "whole".into(),
        seed: 7,
        data: Data {
            // Sample 5 is empty.
            samples: (0..13).map(|id| vec![9; if id == 5 { 0 } else { 3 + id % 4 }]).collect(),
            evaluation: vec![vec![9; 4]; 3],
            tokens: Tokens { pad: 3, bos: 1, eos: 2, vocabulary: 16 },
            batch: 2,
            epochs: 2,
            shuffle: true,
            padding: Padding { policy: PaddingPolicy::Longest, side: Side::Right, multiple_of: 1 },
            max_length: 5,
            drop_last: false,
        },
        train: Train {
            accumulation: 3,
            optimizer: Optimizer {
                name: "adamw".into(),
                lr: 1e-3,
                betas: [0.9, 0.999],
                eps: 1e-8,
                decay: 0.01,
            },
            clip: Some(1.0),
            schedule: Schedule { name: ScheduleName::Linear, warmup: 2, updates: None },
            dropout: 0.1,
            adapters: Some(Adapters { r: 2, alpha: 4.0, rs: false, targets: vec!["q".into()] }),
            heads: vec!["projection".into()],
            forward: Forward::Concatenated,
            checkpointing: false,
            cache: false,
            dtype: Dtype::F32,
            rank: 0,
            world: 1,
            together: false,
        },
        model: Model { size: "tiny".into() },
        start: None,
        stop: None,
        evaluate_every: Some(3),
        save_every: None,
        save_to: None,
        state_every: Some(1),
        sample_memory: Vec::new(),
        probes: vec![
            probe("rows:with-empty", &[0, 1, 5], ProbeAt::Start),
            probe("rows:without", &[0, 1], ProbeAt::Start),
            probe("reload", &[0, 1], ProbeAt::Both),
        ],
        devices: Vec::new(),
        operations: false,
        cycles: Vec::new(),
        contract: Asked::default(),
        memory: None,
        trace: None,
    }
}

pub fn at(epoch: u64, micro_batches: u64) -> Cursor {
    Cursor { epoch, micro_batches }
}

/// The healthy trace of the plan as it stands.
pub fn whole() -> Vec<Event> {
    segment(&plan(), None, None)
}

/// The two segments of a healthy run that is cut once.
pub fn cut_at(cut: Cursor) -> Vec<Vec<Event>> {
    vec![segment(&plan(), None, Some(cut)), segment(&plan(), Some(cut), None)]
}

/// The healthy trace between two places; a trace that begins from one is a resumed one.
pub fn segment(plan: &Plan, from: Option<Cursor>, to: Option<Cursor>) -> Vec<Event> {
    let mut plan = plan.clone();
    plan.start = plan.start.or(from.map(|_| Start { from: "saved".into(), what: Restore::Everything }));
    plan.stop =
        to.map(|to| Stop { epoch: to.epoch, micro_batches: to.micro_batches, save: Some("saved".into()) });
    Walk::new(plan).events(from, to)
}

struct Walk {
    plan: Plan,
    contract: Contract,
    counts: Counts,
    rates: Rates,
    events: Vec<Event>,
}

impl Walk {
    fn new(plan: Plan) -> Self {
        let contract = contract();
        let (counts, rates) = (Counts::of(&plan, &contract), Rates::of(&plan, &contract));
        Self { plan, contract, counts, rates, events: Vec::new() }
    }

    fn events(mut self, from: Option<Cursor>, to: Option<Cursor>) -> Vec<Event> {
        let (plan, contract) = (self.plan.clone(), self.contract.clone());
        self.events.push(Event::Run(Box::new(Run {
            schema: SCHEMA,
            trainer: "synthetic 1".into(),
            device: "none".into(),
            scenario: plan.scenario.clone(),
            run: plan.run.clone(),
            plan,
            recorded: None,
            contract,
        })));
        let start = from.map_or(at(0, 0), |from| self.counts.settle(from));
        if from.is_some() {
            self.checkpoint(CheckpointEdge::Loaded, start);
        }
        self.state(if from.is_some() { Moment::Loaded } else { Moment::Start }, start);
        self.probes(ProbeAt::Start);

        let end = self.counts.settle(to.unwrap_or(at(self.counts.epochs, 0)));
        let mut here = start;
        while here < end {
            if here.micro_batches == 0 {
                self.events.push(Event::Epoch(Epoch::begin(here.epoch)));
            }
            here = self.step(here);
        }

        self.probes(ProbeAt::End);
        self.state(Moment::End, end);
        if to.is_some() {
            self.checkpoint(CheckpointEdge::Saved, end);
        }
        let reason = if to.is_some() { EndReason::Stopped } else { EndReason::Done };
        self.events.push(Event::End(End::new(reason, None)));
        self.events
    }

    /// One micro-batch and all that follows it; gives the next place.
    fn step(&mut self, here: Cursor) -> Cursor {
        let next = self.counts.settle(at(here.epoch, here.micro_batches + 1));
        let batch = self.micro_batch(here);
        self.events.push(Event::MicroBatch(batch));
        let step = self.counts.updates_at(next);
        if step > self.counts.updates_at(here) {
            self.update(here, step);
            if self.plan.state_every.is_some_and(|every| step.is_multiple_of(every)) {
                self.state(Moment::Update, next);
            }
            if self.plan.evaluate_every.is_some_and(|every| step.is_multiple_of(every)) {
                self.evaluation(step);
            }
        }
        if next.micro_batches == 0 {
            self.events.push(Event::Epoch(Epoch::end(here.epoch)));
        }
        next
    }

    fn micro_batch(&self, here: Cursor) -> MicroBatch {
        let data = &self.plan.data;
        let size = data.samples.len() as u64;
        let begin = here.micro_batches * data.batch;
        let samples: Vec<u64> =
            (begin..(begin + data.batch).min(size)).map(|id| (id + 5 * here.epoch) % size).collect();
        let lengths: Vec<u64> = samples.iter().map(|&id| arithmetic::length(data, id)).collect();
        let targets =
            lengths.iter().map(|&length| arithmetic::targets(length, self.contract.targets)).sum::<u64>();
        let anchored = lengths.iter().filter(|&&length| length > 0).count();
        let rows = self.contract.rows_per_sample * samples.len() as u64;
        MicroBatch {
            epoch: here.epoch,
            index: here.micro_batches,
            rows: Some(rows),
            width: Some(lengths.iter().copied().max().unwrap_or(1).max(1)),
            tokens: Some(self.contract.rows_per_sample * lengths.iter().sum::<u64>()),
            targets: Some(targets),
            cache_bytes: Some(0),
            checkpointing: Some(self.plan.train.checkpointing),
            losses: vec![
                Loss::new("lm", 2.5 * targets as f64 + 0.01 * here.micro_batches as f64, targets),
                Loss::new("projection", 0.7 * anchored as f64, anchored as u64),
            ],
            samples: Some(samples),
            ..Default::default()
        }
    }

    fn update(&mut self, last: Cursor, step: u64) {
        let before = self.counts.open_window(last);
        let window: Vec<MicroBatch> = (last.micro_batches - before..=last.micro_batches)
            .map(|index| self.micro_batch(at(last.epoch, index)))
            .collect();
        let norm = 0.8 + 0.1 * step as f64;
        self.events.push(Event::Update(Update {
            step,
            micro_batches: Some(window.len() as u64),
            targets: window.iter().map(|batch| batch.targets).sum(),
            lr: vec![Number(self.rates.at(step))],
            grad_norm: Some(Number(norm)),
            clipped_norm: Some(Number(norm.min(1.0))),
            applied: true,
            digest: Some(format!("t:{step}")),
            ..Default::default()
        }));
    }

    fn state(&mut self, when: Moment, here: Cursor) {
        let step = self.counts.updates_at(here);
        let window = self.counts.open_window(here);
        let tensor = |name: &str, group: &str, trains: bool| TensorState {
            name: name.into(),
            group: group.into(),
            shape: vec![4, 8],
            dtype: "f32".into(),
            trainable: trains,
            optimized: trains,
            decay: None,
            digest: if trains { format!("t:{name}{step}") } else { "t:base".into() },
            moments: trains.then(|| format!("t:m{step}")),
            grad_norm: (trains && step > 0).then_some(Number(0.5)),
            sketch: vec![Number(0.25 * step as f64), Number(-1.0)],
        };
        self.events.push(Event::State(Box::new(State {
            at: when,
            step,
            tensors: vec![
                tensor("layers.0.q.weight", "base", false),
                tensor("layers.0.q.lora_a", "adapter", true),
                tensor("projection.weight", "projection", true),
            ],
            buffers: Default::default(),
            parts: Default::default(),
            rng: Some(format!("t:rng{}-{}", here.epoch, here.micro_batches)),
            schedule_step: Some(step),
            cursor: Some(here),
            window: Some(window),
            window_digest: (window > 0).then(|| format!("t:window{}-{}", here.epoch, here.micro_batches)),
            best: None,
            scaler: None,
            ema: None,
        })));
    }

    fn probes(&mut self, only: ProbeAt) {
        let due = self.plan.probes.iter().filter(|probe| probe.at == only || probe.at == ProbeAt::Both);
        for probe in due {
            let lengths = probe.samples.iter().map(|&id| arithmetic::length(&self.plan.data, id));
            let row = |length: u64| ProbeRow {
                loss: Number(2.5 * length as f64),
                logits: vec![Number(1.5); length as usize],
                head: vec![Number(if length > 0 { 0.5 } else { 0.0 }); 2],
                nonfinite: 0,
            };
            self.events.push(Event::Probe(Box::new(traintrue_protocol::trace::event::Probe {
                name: probe.name.clone(),
                at: Some(if only == ProbeAt::Start { "start" } else { "end" }.into()),
                rows: lengths.clone().map(row).collect(),
                width: lengths.max(),
                cache_bytes: Some(0),
                gradients: vec![ProbeGradient {
                    name: "projection.weight".into(),
                    shape: vec![4, 8],
                    norm: Number(0.5),
                    sketch: vec![Number(0.1), Number(-0.2)],
                }],
            })));
        }
    }

    fn evaluation(&mut self, step: u64) {
        self.events.push(Event::Evaluation(Evaluation {
            step,
            samples: Some(vec![0, 1, 2]),
            losses: vec![Loss::new("lm", 12.0, 6), Loss::new("lm", 9.0, 3)],
            metric: Some(Number(21.0 / 9.0)),
            digest_before: Some("t:1".into()),
            digest_after: Some("t:1".into()),
            rng_before: Some("t:2".into()),
            rng_after: Some("t:2".into()),
            dropped: Some(0),
            ..Default::default()
        }));
    }

    fn checkpoint(&mut self, edge: CheckpointEdge, here: Cursor) {
        let step = self.counts.updates_at(here);
        let place = (here.epoch, here.micro_batches);
        self.events.push(Event::Checkpoint(Checkpoint::new(edge, step, place, "saved")));
    }
}

/// A memory sample of one lane.
pub fn memory(lane: &str, bytes: u64) -> Event {
    Event::Memory(Memory { at: Boundary::Forward, step: 0, lanes: [(lane.to_owned(), Some(bytes))].into() })
}

/// Where the first event stands that `is` accepts.
pub fn position(events: &[Event], is: impl Fn(&Event) -> bool) -> usize {
    events.iter().position(is).expect("the trace has such an event")
}

/// The micro-batch at a place, to be changed.
pub fn batch_at(events: &mut [Event], epoch: u64, index: u64) -> &mut MicroBatch {
    let found = events.iter_mut().find_map(|event| match event {
        Event::MicroBatch(it) if (it.epoch, it.index) == (epoch, index) => Some(it),
        _ => None,
    });
    found.expect("the trace has that micro-batch")
}

/// An update, to be changed.
pub fn update_at(events: &mut [Event], step: u64) -> &mut Update {
    let found = events.iter_mut().find_map(|event| match event {
        Event::Update(it) if it.step == step => Some(it),
        _ => None,
    });
    found.expect("the trace has that update")
}

/// The first state event of that kind, to be changed.
pub fn state_at(events: &mut [Event], when: Moment) -> &mut State {
    let found = events.iter_mut().find_map(|event| match event {
        Event::State(it) if it.at == when => Some(it),
        _ => None,
    });
    found.expect("the trace has that state")
}

/// The sheet of one invariant over one trace.
pub fn judge(name: &str, events: &[Event]) -> Sheet {
    let rule = find(name).expect("a rule of that name");
    let Kind::Trace(begin) = rule.kind else { panic!("{name} does not judge single traces") };
    let Event::Run(run) = &events[0] else { panic!("a trace begins with its run") };
    let mut judge = begin(&Opening {
        plan: &run.plan,
        contract: &run.contract,
        recorded: run.recorded.as_ref(),
        precision: Precision::EXACT,
    });
    let mut sheet = Sheet::default();
    let lines = events.iter().zip(1..).map(|(event, number)| Line { number, event: event.clone() });
    let lines: Vec<Line> = lines.collect();
    for line in &lines[1..] {
        judge.see(line, &mut sheet);
    }
    judge.finish(&lines[lines.len() - 1], &mut sheet);
    sheet
}

/// The sheet of one invariant over the segments of a run and, where it judges pairs, over another run.
pub fn judge_runs(name: &str, run: &[Vec<Event>], against: &[Vec<Event>]) -> Sheet {
    judge_repeated(name, run, against, &[])
}

/// The same, where the other run was made again: `repeats` are what that left.
pub fn judge_repeated(
    name: &str,
    run: &[Vec<Event>],
    against: &[Vec<Event>],
    repeats: &[Vec<Event>],
) -> Sheet {
    let folder = TempDir::new().expect("a folder for the traces");
    let (run, mut against) = (evidence(&folder, "run", run), evidence(&folder, "against", against));
    for (at, repeat) in repeats.iter().enumerate() {
        let repeat = evidence(&folder, &format!("again-{at}"), std::slice::from_ref(repeat));
        against.repeats.push(repeat.segments);
    }
    let mut sheet = Sheet::default();
    match find(name).expect("a rule of that name").kind {
        Kind::Run(rule) => rule(&run, &mut sheet),
        Kind::Pair(rule) => rule(&run, &against, &mut sheet),
        Kind::Trace(_) | Kind::Ranks(_) | Kind::Process | Kind::Artefact => {
            panic!("{name} does not judge runs")
        }
    }
    .expect("readable traces");
    sheet
}

pub(crate) fn evidence(folder: &TempDir, name: &str, segments: &[Vec<Event>]) -> RunEvidence {
    let write = |(index, events): (usize, &Vec<Event>)| -> PathBuf {
        let path = folder.path().join(format!("{name}-{index}.jsonl"));
        let mut writer = TraceWriter::new(std::fs::File::create(&path).expect("a trace file"));
        for event in events {
            writer.write(event).expect("a written event");
        }
        path
    };
    RunEvidence {
        name: name.into(),
        segments: segments.iter().enumerate().map(write).collect(),
        repeats: Vec::new(),
    }
}

/// Asserts that a sheet holds, and compared something.
#[track_caller]
pub fn holds(sheet: &Sheet) {
    assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
    assert!(sheet.missing.is_none(), "{:?}", sheet.missing);
    assert!(sheet.compared > 0, "nothing was compared");
}

/// Asserts that a sheet is broken, by that component, and gives the cause.
#[track_caller]
pub fn breaks(sheet: Sheet, component: &str) -> String {
    let broken = sheet.broken.expect("a finding");
    assert_eq!(broken.component.name(), component, "{broken:?}");
    broken.cause
}
