//! Leaks: callbacks that keep what they are given. Also controls: memory that looks like a leak and is none.

use std::collections::HashMap;
use std::mem;

use burn::tensor::Tensor;
use memmap2::MmapMut;

use super::Fault;
use crate::callback::{Callback, Forwarded};
use crate::data::Batch;
use crate::engine::{Engine, Inner};
use crate::model::Parameters;
use crate::parts::Parts;
use crate::window::GradientSet;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("gradients-kept-by-step", |parts| {
            call(parts, GradientsByName { step_in_key: true, kept: HashMap::new() })
        }),
        ("moments-keep-their-graph", |parts| call(parts, TrackedMoment(None))),
        ("compile-cache-never-cleared", |parts| call(parts, CompileCache::default())),
        ("batch-kept-by-the-loop", |parts| call(parts, Batches(Vec::new()))),
        ("native-buffer-a-call", |parts| call(parts, NativeBuffer)),
        ("kept-at-every-epoch", |parts| call(parts, Snapshots(Vec::new()))),
        ("loss-kept-with-its-graph", |parts| call(parts, LossGraphs(Vec::new()))),
        ("loss-history-kept", |parts| call(parts, LossHistory(Vec::new()))),
        ("metrics-never-reset", |parts| call(parts, Metrics(Vec::new()))),
        ("hooks-registered-again", |parts| call(parts, Hooks(Vec::new()))),
        ("forward-without-backward", |parts| call(parts, Unused(None))),
        ("64-bytes-a-step", |parts| call(parts, SixtyFour(Vec::new()))),
    ]
}

/// Callbacks that hold memory and do not leak. No finding may name them.
pub fn controls<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("gradients-kept-by-name", |parts| {
            call(parts, GradientsByName { step_in_key: false, kept: HashMap::new() });
        }),
        ("batch-held-until-the-next", |parts| call(parts, LastBatch(None))),
        ("pool-never-cleared", |parts| call(parts, Pool(None))),
        ("compile-cache-of-few-shapes", |parts| {
            call(parts, CompileCache { few: true, ..Default::default() })
        }),
    ]
}

fn call<E: Engine>(parts: &mut Parts<E>, callback: impl Callback<E> + 'static) {
    parts.callbacks.push(Box::new(callback));
}

/// The map of gradients of report 2. Where a key comes again, the insertion frees the old gradient.
struct GradientsByName<E: Engine> {
    step_in_key: bool,
    kept: HashMap<(u64, usize), Tensor<Inner<E>, 2>>,
}

impl<E: Engine> Callback<E> for GradientsByName<E> {
    fn updated(&mut self, step: u64, gradients: &GradientSet<Inner<E>>) {
        let step = if self.step_in_key { step } else { 0 };
        for (place, gradient) in gradients.iter().enumerate() {
            if let Some(gradient) = gradient {
                self.kept.insert((step, place), gradient.clone());
            }
        }
    }
}

/// A moment computed from tensors with gradients: each step's graph holds the graph of the step before.
struct TrackedMoment<E: Engine>(Option<Tensor<E, 2>>);

impl<E: Engine> Callback<E> for TrackedMoment<E> {
    fn updated(&mut self, _step: u64, gradients: &GradientSet<Inner<E>>) {
        let Some(gradient) = gradients.iter().flatten().next() else { return };
        let gradient = Tensor::<E, 2>::from_inner(gradient.clone()).require_grad();
        self.0 = Some(match self.0.take() {
            Some(moment) => moment * 0.9 + gradient * 0.1,
            None => gradient * 0.1,
        });
    }
}

/// A compile cache with an entry per sequence of shapes in a window. Simulated: burn-ndarray compiles nothing.
#[derive(Default)]
struct CompileCache {
    few: bool,
    shapes: Vec<(usize, usize)>,
    compiled: HashMap<Vec<(usize, usize)>, Vec<u8>>,
}

impl<E: Engine> Callback<E> for CompileCache {
    fn forwarded(&mut self, &Forwarded { batch, .. }: &Forwarded<E>) {
        self.shapes.push((batch.rows.count, batch.rows.width));
    }

    fn updated(&mut self, _step: u64, _gradients: &GradientSet<Inner<E>>) {
        const COMPILED_BYTES: usize = 16 << 10;
        let shapes = mem::take(&mut self.shapes);
        let key =
            if self.few { shapes.into_iter().take(1).map(|(rows, _)| (rows, 0)).collect() } else { shapes };
        self.compiled.entry(key).or_insert_with(|| vec![1; COMPILED_BYTES]);
    }
}

/// The list of batches of report 1, which nothing reads.
struct Batches(Vec<Batch>);

impl<E: Engine> Callback<E> for Batches {
    fn forwarded(&mut self, &Forwarded { batch, .. }: &Forwarded<E>) {
        self.0.push(batch.clone());
    }
}

/// One batch too many is alive at a time: an offset, not a slope.
struct LastBatch(Option<Batch>);

impl<E: Engine> Callback<E> for LastBatch {
    fn forwarded(&mut self, &Forwarded { batch, .. }: &Forwarded<E>) {
        self.0 = Some(batch.clone());
    }

    fn updated(&mut self, _step: u64, _gradients: &GradientSet<Inner<E>>) {
        self.0 = None;
    }
}

/// Pages that do not come from the allocator, as in a native image processor: report 1 measured 6.8 KB per call.
struct NativeBuffer;

impl<E: Engine> Callback<E> for NativeBuffer {
    fn forwarded(&mut self, _forwarded: &Forwarded<E>) {
        const BYTES: usize = 6_800;
        if let Ok(mut buffer) = MmapMut::map_anon(BYTES) {
            buffer.fill(1);
            mem::forget(buffer);
        }
    }
}

/// A memory pool as large as the largest batch so far, never cleared. Its memory is reserved, not leaked.
struct Pool(Option<MmapMut>);

impl<E: Engine> Callback<E> for Pool {
    fn forwarded(&mut self, &Forwarded { batch, .. }: &Forwarded<E>) {
        let bytes = 4096 * batch.rows.width;
        if self.0.as_ref().is_none_or(|pool| pool.len() < bytes) {
            self.0 = MmapMut::map_anon(bytes).ok();
            self.0.iter_mut().for_each(|pool| pool.fill(1));
        }
    }
}

/// A copy of the parameters at each epoch's end.
struct Snapshots<E: Engine>(Vec<Parameters<Inner<E>>>);

impl<E: Engine> Callback<E> for Snapshots<E> {
    fn epoch_ended(&mut self, parameters: &Parameters<Inner<E>>) {
        self.0.push(parameters.clone());
    }
}

/// A list of losses for a plot, each with its graph.
struct LossGraphs<E: Engine>(Vec<Tensor<E, 1>>);

impl<E: Engine> Callback<E> for LossGraphs<E> {
    fn forwarded(&mut self, &Forwarded { loss, .. }: &Forwarded<E>) {
        self.0.push(loss.clone());
    }
}

/// A list of losses for a plot, each a tensor without a graph.
struct LossHistory<E: Engine>(Vec<Tensor<Inner<E>, 1>>);

impl<E: Engine> Callback<E> for LossHistory<E> {
    fn forwarded(&mut self, &Forwarded { loss, .. }: &Forwarded<E>) {
        self.0.push(loss.clone().inner());
    }
}

/// The buffers of a metric that each evaluation adds to and none resets.
struct Metrics(Vec<Vec<(f64, u64)>>);

impl<E: Engine> Callback<E> for Metrics {
    fn evaluated(&mut self, batches: &[(f64, u64)]) {
        self.0.push(batches.to_vec());
    }
}

/// A hook that every step registers again.
struct Hooks(Vec<Hook>);

type Hook = Box<dyn Fn(&Batch) -> u64>;

impl<E: Engine> Callback<E> for Hooks {
    fn forwarded(&mut self, &Forwarded { batch, .. }: &Forwarded<E>) {
        let first = batch.counts.tokens;
        self.0.push(Box::new(move |batch| batch.counts.tokens.abs_diff(first)));
        self.0.iter().for_each(|hook| {
            std::hint::black_box(hook(batch));
        });
    }
}

/// A penalty with a graph, summed for a plot and never differentiated. A sum of losses would not leak: burn frees the graph
/// of a loss that was differentiated.
struct Unused<E: Engine>(Option<Tensor<E, 1>>);

impl<E: Engine> Callback<E> for Unused<E> {
    fn forwarded(&mut self, &Forwarded { weights, .. }: &Forwarded<E>) {
        let Some(weight) = weights.iter().find(|weight| weight.is_require_grad()) else { return };
        let penalty = (weight.clone() * weight.clone()).sum();
        self.0 = Some(match self.0.take() {
            Some(sum) => sum + penalty,
            None => penalty,
        });
    }
}

/// The smallest leak that the suite must find.
struct SixtyFour(Vec<Vec<u8>>);

impl<E: Engine> Callback<E> for SixtyFour {
    fn updated(&mut self, _step: u64, _gradients: &GradientSet<Inner<E>>) {
        self.0.push(vec![1; 64]);
    }
}
