//! Forwards outside training: dropout off, nothing kept.

use candle_core::Result;
use traintrue_protocol::digest::{norm, sketch};
use traintrue_protocol::number::Number;
use traintrue_protocol::trace::event::{Probe, ProbeGradient, ProbeRow};
use traintrue_protocol::{Plan, plan};

use crate::data::Batch;
use crate::model::{Model, Pass, values};
use crate::seen::{extents, sketched};

/// Sums in the sketch of one position's logits.
const SKETCHES: u64 = 2;

/// Makes one probe; `at` is `start` or `end`.
pub fn probe(asked: &plan::Probe, at: &str, plan: &Plan, model: &Model) -> Result<Probe> {
    let samples: Vec<&[u32]> = asked.samples.iter().map(|&id| &plan.data.samples[id as usize][..]).collect();
    let batch = Batch::of(&samples, &plan.data, &asked.padding.unwrap_or(plan.data.padding))?;
    let logits = model.logits(&batch, Pass::Outside)?;
    let losses = values(&model.losses(&batch, &logits)?.sum(1)?)?;
    let logits = logits.to_vec2::<f32>()?;
    let rows = losses.into_iter().zip(logits.chunks(batch.width)).zip(batch.real.chunks(batch.width));
    let row = |((loss, logits), real): ((f32, &[Vec<f32>]), &[bool])| ProbeRow {
        loss: f64::from(loss).into(),
        logits: logits
            .iter()
            .zip(real)
            .filter(|(_, real)| **real)
            .flat_map(|(logits, _)| sketch(logits, SKETCHES))
            .map(Number)
            .collect(),
        head: Vec::new(),
        nonfinite: logits.iter().flatten().filter(|x| !x.is_finite()).count() as u64,
    };
    let rows = rows.map(row).collect();
    let mut gradients = Vec::new();
    if asked.gradients {
        for (name, gradient) in model.backward(&batch, Pass::Outside, batch.targets.max(1))?.1 {
            gradients.push(ProbeGradient {
                name,
                shape: extents(&gradient),
                norm: norm([&values(&gradient)?[..]]).into(),
                sketch: sketched(&gradient)?,
            });
        }
    }
    let (name, width) = (asked.name.clone(), Some(batch.width as u64));
    Ok(Probe { name, at: Some(at.to_owned()), rows, width, cache_bytes: None, gradients })
}
