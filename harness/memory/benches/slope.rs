//! How long a slope verdict takes, by the length of the series.

use criterion::{Criterion, Throughput};
use traintrue_memory::bytes::BytesPerStep;
use traintrue_memory::series::Point;
use traintrue_memory::slope::judge;

/// A leak under a collector's saw.
fn saw(count: u32) -> Vec<Point> {
    let held = |step: u32| f64::from(step) * 100_000.0 + f64::from(step % 75) * 300_000.0;
    (0..count).map(|step| Point { step: f64::from(step), bytes: held(step) }).collect()
}

fn main() {
    let mut criterion = Criterion::default().configure_from_args();
    let mut group = criterion.benchmark_group("slope");
    for count in [300, 3_000, 1_000_000] {
        let points = saw(count);
        group.throughput(Throughput::Elements(u64::from(count)));
        group.bench_function(count.to_string(), |bencher| {
            bencher.iter(|| judge(&points, BytesPerStep(65_536.0)))
        });
    }
    group.finish();
    criterion.final_summary();
}
