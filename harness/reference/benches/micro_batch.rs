//! The cost of a micro-batch, forward and backward, per model size. Each training has one update, so little else is timed.

use std::io;

use criterion::{BenchmarkId, Criterion, Throughput};
use serde_json::json;
use traintrue_protocol::plan::Plan;
use traintrue_protocol::trainer::record;
use traintrue_reference::Reference;

/// Micro-batches per training: enough that the start and the update do not show.
const MICRO_BATCHES: u64 = 256;
const ROWS: u64 = 2;
const WIDTH: u64 = 32;

/// Full rows of text bytes between `bos` and `eos`, under an adapter of rank 4 on `q` and `v`.
fn plan(size: &str) -> Plan {
    let sample = |id: u64| -> Vec<u64> {
        let text = (2..WIDTH).map(|at| (7 * id + 11 * at) % 256);
        std::iter::once(257).chain(text).chain([258]).collect()
    };
    let samples: Vec<_> = (0..ROWS * MICRO_BATCHES).map(sample).collect();
    let plan = json!({
        "schema": 1, "scenario": "bench", "run": size, "seed": 7,
        "data": {
            "samples": samples,
            "tokens": {"pad": 256, "bos": 257, "eos": 258, "vocabulary": 259},
            "batch": ROWS, "epochs": 1, "shuffle": true,
            "padding": {"policy": "longest", "side": "right", "multiple_of": 1},
            "max_length": WIDTH, "drop_last": false,
        },
        "train": {
            "accumulation": MICRO_BATCHES,
            "optimizer": {"name": "adamw", "lr": 1e-3, "betas": [0.9, 0.999], "eps": 1e-8, "decay": 0.01},
            "schedule": {"name": "constant", "warmup": 0},
            "adapters": {"r": 4, "alpha": 16, "targets": ["q", "v"]},
        },
        "model": {"size": size},
    });
    Plan::parse(&plan.to_string()).expect("the plan is one")
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("micro_batch");
    group.sample_size(10).throughput(Throughput::Elements(MICRO_BATCHES));
    for size in ["tiny", "small"] {
        let plan = plan(size);
        group.bench_function(BenchmarkId::from_parameter(size), |bencher| {
            bencher.iter(|| {
                record(&mut Reference::default(), &plan, io::sink()).expect("the plan is carried out")
            });
        });
    }
    group.finish();
    criterion.final_summary();
}
