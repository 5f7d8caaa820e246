//! Samples to micro-batches: order, padding, labels.

use candle_core::{Device, Result, Tensor};
use rand::seq::SliceRandom;
use traintrue_protocol::Plan;
use traintrue_protocol::plan::{Data, Padding, PaddingPolicy, Side};

use crate::random::{Purpose, stream};

/// What a masked score is: low enough to vanish in a softmax, and finite where every score of a row is masked.
const MASKED: f32 = -1e9;

/// The micro-batches of this rank in an epoch, as ids of samples.
pub fn order(plan: &Plan, epoch: u64) -> Vec<Vec<u64>> {
    let (data, train) = (&plan.data, &plan.train);
    let mut ids: Vec<u64> = (0..data.samples.len() as u64).collect();
    if data.shuffle {
        ids.shuffle(&mut stream(plan.seed, Purpose::Order, epoch));
    }
    let mut batches: Vec<Vec<u64>> = ids.chunks(data.batch as usize).map(<[u64]>::to_vec).collect();
    if data.drop_last {
        batches.retain(|batch| batch.len() as u64 == data.batch);
    }
    // Ranks stay in step: what does not fill all of them is left out.
    let of_rank = batches.len() / train.world as usize;
    let own = batches.into_iter().skip(train.rank as usize).step_by(train.world as usize);
    own.take(of_rank).collect()
}

/// One padded micro-batch.
pub struct Batch {
    pub rows: usize,
    pub width: usize,
    /// Positions that are not padding.
    pub tokens: u64,
    /// Positions whose next token is predicted.
    pub targets: u64,
    /// By position, row after row: whether a token stands there.
    pub real: Vec<bool>,
    /// Token ids. Shape: rows, width.
    pub ids: Tensor,
    /// Places counted from each row's first token. Shape: rows, width.
    pub places: Tensor,
    /// Added to attention's scores. Shape: rows, width, width.
    pub mask: Tensor,
    /// The token after each. Shape: rows * width.
    pub next: Tensor,
    /// 1 where the next token is predicted, else 0. Shape: rows * width.
    pub supervised: Tensor,
}

impl Batch {
    /// Pads these samples into one batch.
    pub fn of(samples: &[&[u32]], data: &Data, padding: &Padding) -> Result<Self> {
        let cut: Vec<Vec<u32>> = samples.iter().map(|sample| truncated(sample, data.max_length)).collect();
        let (rows, width) = (cut.len(), width(&cut, data, padding));
        let places = rows * width;
        let (mut ids, mut next) = (vec![data.tokens.pad; places], vec![0_u32; places]);
        let (mut counted, mut supervised, mut real) =
            (vec![0_u32; places], vec![0_f32; places], vec![false; places]);
        let mut mask = vec![MASKED; places * width];
        for (row, sample) in cut.iter().enumerate() {
            let first = match padding.side {
                Side::Left => width - sample.len(),
                Side::Right => 0,
            };
            for (place, &id) in sample.iter().enumerate() {
                let at = row * width + first + place;
                (ids[at], counted[at], real[at]) = (id, place as u32, true);
                if let Some(&after) = sample.get(place + 1) {
                    (next[at], supervised[at]) = (after, 1.0);
                }
                mask[at * width + first..=at * width + first + place].fill(0.0);
            }
        }
        let device = &Device::Cpu;
        let targets = supervised.iter().filter(|&&it| it > 0.0).count() as u64;
        Ok(Self {
            rows,
            width,
            tokens: cut.iter().map(|sample| sample.len() as u64).sum(),
            targets,
            real,
            ids: Tensor::from_vec(ids, (rows, width), device)?,
            places: Tensor::from_vec(counted, (rows, width), device)?,
            mask: Tensor::from_vec(mask, (rows, width, width), device)?,
            next: Tensor::from_vec(next, places, device)?,
            supervised: Tensor::from_vec(supervised, places, device)?,
        })
    }
}

/// At most so many tokens, the last one kept.
fn truncated(sample: &[u32], most: u64) -> Vec<u32> {
    let kept = sample.len().min(most as usize).saturating_sub(1);
    sample[..kept].iter().chain(sample.last()).copied().collect()
}

fn width(samples: &[Vec<u32>], data: &Data, padding: &Padding) -> usize {
    let width = match padding.policy {
        PaddingPolicy::Longest => samples.iter().map(Vec::len).max().unwrap_or(0).max(1),
        PaddingPolicy::MaxLength => data.max_length as usize,
    };
    width.next_multiple_of(padding.multiple_of as usize)
}
