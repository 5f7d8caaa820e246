//! Events a second of reading a recorded trace and judging it by every invariant over single traces.

use std::fs::File;
use std::io::{self, BufWriter};

use criterion::{Criterion, Throughput};
use traintrue_judge::arithmetic::{Rates, length, targets};
use traintrue_judge::pass::judge_trace;
use traintrue_judge::rules::RULES;
use traintrue_protocol::contract::{Contract, Targets};
use traintrue_protocol::number::Number;
use traintrue_protocol::plan::{Plan, SCHEMA};
use traintrue_protocol::trace::event::{End, EndReason, Epoch, Loss, MicroBatch, Run, Update};
use traintrue_protocol::trace::{Event, TraceWriter};

const SAMPLES: u64 = 4_000;
const EPOCHS: u64 = 90;
const BATCH: u64 = 2;
const ACCUMULATION: u64 = 8;

/// Rows of 4 to 10 tokens.
fn plan() -> Plan {
    let samples: Vec<Vec<u32>> = (0..SAMPLES).map(|id| vec![9; 4 + id as usize % 7]).collect();
    let text = format!(
        r#"{{"schema":1,"scenario":"bench","run":"long","seed":7,
            "data":{{"samples":{samples:?},"tokens":{{"pad":3,"bos":1,"eos":2,"vocabulary":16}},
                "batch":{BATCH},"epochs":{EPOCHS},"shuffle":false,
                "padding":{{"policy":"longest","side":"right","multiple_of":1}},"max_length":16,"drop_last":false}},
            "train":{{"accumulation":{ACCUMULATION},
                "optimizer":{{"name":"adamw","lr":1e-3,"betas":[0.9,0.999],"eps":1e-8,"decay":0.01}},
                "clip":1.0,"schedule":{{"name":"linear","warmup":100}}}},
            "model":{{"size":"tiny"}}}}"#
    );
    Plan::parse(&text).expect("the plan is one")
}

/// A healthy run written out, and how many events that took.
fn write(to: impl io::Write) -> io::Result<u64> {
    let (plan, contract) = (plan(), Contract::default());
    let rates = Rates::of(&plan, &contract);
    let mut trace = TraceWriter::new(BufWriter::new(to));
    let mut events = 0;
    let mut write = |event: Event| {
        events += 1;
        trace.write(&event)
    };
    write(Event::Run(Box::new(Run {
        schema: SCHEMA,
        trainer: "synthetic 1".to_owned(),
        device: "none".to_owned(),
        scenario: plan.scenario.clone(),
        run: plan.run.clone(),
        plan: plan.clone(),
        recorded: None,
        contract,
    })))?;
    let (mut step, mut window) = (0, 0);
    for epoch in 0..EPOCHS {
        write(Event::Epoch(Epoch::begin(epoch)))?;
        for index in 0..SAMPLES / BATCH {
            let batch = micro_batch(&plan, epoch, index);
            window += batch.targets.unwrap_or(0);
            write(Event::MicroBatch(batch))?;
            if (index + 1) % ACCUMULATION == 0 {
                step += 1;
                write(Event::Update(update(step, std::mem::take(&mut window), rates.at(step))))?;
            }
        }
        write(Event::Epoch(Epoch::end(epoch)))?;
    }
    write(Event::End(End::new(EndReason::Done, None)))?;
    Ok(events)
}

fn micro_batch(plan: &Plan, epoch: u64, index: u64) -> MicroBatch {
    let samples: Vec<u64> = (index * BATCH..(index + 1) * BATCH).collect();
    let lengths: Vec<u64> = samples.iter().map(|&id| length(&plan.data, id)).collect();
    let supervised: u64 = lengths.iter().map(|&length| targets(length, Targets::NextTokens)).sum();
    let lm = Loss::new("lm", 2.75 * supervised as f64, supervised);
    MicroBatch {
        epoch,
        index,
        samples: Some(samples),
        rows: Some(BATCH),
        width: lengths.iter().copied().max(),
        tokens: Some(lengths.iter().sum()),
        targets: Some(supervised),
        cache_bytes: Some(0),
        checkpointing: Some(false),
        losses: vec![lm],
        ..Default::default()
    }
}

fn update(step: u64, targets: u64, lr: f64) -> Update {
    Update {
        step,
        micro_batches: Some(ACCUMULATION),
        targets: Some(targets),
        lr: vec![Number(lr)],
        grad_norm: Some(Number(1.234567891234)),
        clipped_norm: Some(Number(1.0)),
        applied: true,
        digest: Some(format!("blake3:{step:064x}")),
        ..Default::default()
    }
}

fn main() {
    let folder = tempfile::tempdir().expect("a folder for the trace");
    let trace = folder.path().join("trace.jsonl");
    let events = File::create(&trace).and_then(write).expect("the trace is written");
    let judged = judge_trace(&trace, false, RULES);
    let broken = judged.sheets.iter().find_map(|(rule, sheet)| Some((rule.name, sheet.broken.as_ref()?)));
    assert!(judged.error.is_none() && broken.is_none(), "{:?} {broken:?}", judged.error);

    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("judge");
    group.sample_size(10).throughput(Throughput::Elements(events));
    group.bench_function("recorded_trace", |bencher| bencher.iter(|| judge_trace(&trace, false, RULES)));
    group.finish();
    criterion.final_summary();
}
