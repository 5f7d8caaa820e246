//! Leaks: observers that keep what they are handed. And what looks like one and is none.

use std::collections::HashMap;
use std::mem;

use burn::tensor::Tensor;
use memmap2::MmapMut;

use super::Fault;
use crate::data::Batch;
use crate::engine::{Engine, Inner};
use crate::model::Parameters;
use crate::observer::{Forwarded, Observer};
use crate::parts::Parts;
use crate::window::GradientSet;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("gradients-kept-by-step", |parts| {
            watch(parts, GradientsByName { step_in_key: true, kept: HashMap::new() })
        }),
        ("moments-keep-their-graph", |parts| watch(parts, TrackedMoment(None))),
        ("compile-cache-never-cleared", |parts| watch(parts, CompileCache::default())),
        ("batch-kept-by-the-loop", |parts| watch(parts, Batches(Vec::new()))),
        ("native-buffer-a-call", |parts| watch(parts, NativeBuffer)),
        ("kept-at-every-epoch", |parts| watch(parts, Snapshots(Vec::new()))),
        ("loss-kept-with-its-graph", |parts| watch(parts, LossGraphs(Vec::new()))),
        ("loss-history-kept", |parts| watch(parts, LossHistory(Vec::new()))),
        ("metrics-never-reset", |parts| watch(parts, Metrics(Vec::new()))),
        ("hooks-registered-again", |parts| watch(parts, Hooks(Vec::new()))),
        ("forward-without-backward", |parts| watch(parts, Unused(None))),
        ("64-bytes-a-step", |parts| watch(parts, SixtyFour(Vec::new()))),
    ]
}

/// What holds memory and does not leak it: nothing may be said of these.
pub fn controls<E: Engine>() -> Vec<Fault<E>> {
    vec![
        ("gradients-kept-by-name", |parts| {
            watch(parts, GradientsByName { step_in_key: false, kept: HashMap::new() });
        }),
        ("batch-held-until-the-next", |parts| watch(parts, LastBatch(None))),
        ("pool-never-cleared", |parts| watch(parts, Pool(None))),
        ("compile-cache-of-few-shapes", |parts| {
            watch(parts, CompileCache { few: true, ..Default::default() })
        }),
    ]
}

fn watch<E: Engine>(parts: &mut Parts<E>, observer: impl Observer<E> + 'static) {
    parts.observers.push(Box::new(observer));
}

/// Report 2's map of gradients. Under a key that comes again, an insert frees what it replaces.
struct GradientsByName<E: Engine> {
    step_in_key: bool,
    kept: HashMap<(u64, usize), Tensor<Inner<E>, 2>>,
}

impl<E: Engine> Observer<E> for GradientsByName<E> {
    fn updated(&mut self, step: u64, gradients: &GradientSet<Inner<E>>) {
        let step = if self.step_in_key { step } else { 0 };
        for (place, gradient) in gradients.iter().enumerate() {
            if let Some(gradient) = gradient {
                self.kept.insert((step, place), gradient.clone());
            }
        }
    }
}

/// A moment computed from tracked tensors: each step's graph hangs on the one before.
struct TrackedMoment<E: Engine>(Option<Tensor<E, 2>>);

impl<E: Engine> Observer<E> for TrackedMoment<E> {
    fn updated(&mut self, _step: u64, gradients: &GradientSet<Inner<E>>) {
        let Some(gradient) = gradients.iter().flatten().next() else { return };
        let gradient = Tensor::<E, 2>::from_inner(gradient.clone()).require_grad();
        self.0 = Some(match self.0.take() {
            Some(moment) => moment * 0.9 + gradient * 0.1,
            None => gradient * 0.1,
        });
    }
}

/// Simulated, for burn-ndarray compiles nothing: an entry for every sequence of shapes that a window had.
#[derive(Default)]
struct CompileCache {
    few: bool,
    shapes: Vec<(usize, usize)>,
    compiled: HashMap<Vec<(usize, usize)>, Vec<u8>>,
}

impl<E: Engine> Observer<E> for CompileCache {
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

/// Report 1's: a list of the loop's own that nobody looks at.
struct Batches(Vec<Batch>);

impl<E: Engine> Observer<E> for Batches {
    fn forwarded(&mut self, &Forwarded { batch, .. }: &Forwarded<E>) {
        self.0.push(batch.clone());
    }
}

/// One live batch too many is an offset, not a slope.
struct LastBatch(Option<Batch>);

impl<E: Engine> Observer<E> for LastBatch {
    fn forwarded(&mut self, &Forwarded { batch, .. }: &Forwarded<E>) {
        self.0 = Some(batch.clone());
    }

    fn updated(&mut self, _step: u64, _gradients: &GradientSet<Inner<E>>) {
        self.0 = None;
    }
}

/// Pages taken from the system behind the allocator's back, as a native image processor does: report 1 measured 6.8 KB a
/// call.
struct NativeBuffer;

impl<E: Engine> Observer<E> for NativeBuffer {
    fn forwarded(&mut self, _forwarded: &Forwarded<E>) {
        const BYTES: usize = 6_800;
        if let Ok(mut buffer) = MmapMut::map_anon(BYTES) {
            buffer.fill(1);
            mem::forget(buffer);
        }
    }
}

/// An allocator's cache that is never cleared: as much as the largest batch has ever needed. That is reserved, not leaked.
struct Pool(Option<MmapMut>);

impl<E: Engine> Observer<E> for Pool {
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

impl<E: Engine> Observer<E> for Snapshots<E> {
    fn epoch_ended(&mut self, parameters: &Parameters<Inner<E>>) {
        self.0.push(parameters.clone());
    }
}

/// A running list of losses for a plot, each with all that it was computed from.
struct LossGraphs<E: Engine>(Vec<Tensor<E, 1>>);

impl<E: Engine> Observer<E> for LossGraphs<E> {
    fn forwarded(&mut self, &Forwarded { loss, .. }: &Forwarded<E>) {
        self.0.push(loss.clone());
    }
}

/// The same list of numbers, each still a tensor.
struct LossHistory<E: Engine>(Vec<Tensor<Inner<E>, 1>>);

impl<E: Engine> Observer<E> for LossHistory<E> {
    fn forwarded(&mut self, &Forwarded { loss, .. }: &Forwarded<E>) {
        self.0.push(loss.clone().inner());
    }
}

/// The buffers of a metric, to which each evaluation adds its batches.
struct Metrics(Vec<Vec<(f64, u64)>>);

impl<E: Engine> Observer<E> for Metrics {
    fn evaluated(&mut self, batches: &[(f64, u64)]) {
        self.0.push(batches.to_vec());
    }
}

/// A hook that every step registers once more.
struct Hooks(Vec<Hook>);

type Hook = Box<dyn Fn(&Batch) -> u64>;

impl<E: Engine> Observer<E> for Hooks {
    fn forwarded(&mut self, &Forwarded { batch, .. }: &Forwarded<E>) {
        let first = batch.counts.tokens;
        self.0.push(Box::new(move |batch| batch.counts.tokens.abs_diff(first)));
        self.0.iter().for_each(|hook| {
            std::hint::black_box(hook(batch));
        });
    }
}

/// A penalty computed under the graph, summed up for a plot and never differentiated. (A sum of losses would not do: once
/// burn has differentiated a loss it drops what hangs on it.)
struct Unused<E: Engine>(Option<Tensor<E, 1>>);

impl<E: Engine> Observer<E> for Unused<E> {
    fn forwarded(&mut self, &Forwarded { weights, .. }: &Forwarded<E>) {
        let Some(weight) = weights.iter().find(|weight| weight.is_require_grad()) else { return };
        let penalty = (weight.clone() * weight.clone()).sum();
        self.0 = Some(match self.0.take() {
            Some(sum) => sum + penalty,
            None => penalty,
        });
    }
}

/// The smallest leak that the suite is held to.
struct SixtyFour(Vec<Vec<u8>>);

impl<E: Engine> Observer<E> for SixtyFour {
    fn updated(&mut self, _step: u64, _gradients: &GradientSet<Inner<E>>) {
        self.0.push(vec![1; 64]);
    }
}
