//! What the trace is told of weights, moments and gradients.

use std::collections::BTreeMap;

use candle_core::{Result, Tensor};
use traintrue_protocol::digest::{Digest, norm, sketch};
use traintrue_protocol::number::Number;
use traintrue_protocol::trace::event::{Cursor, State, TensorState};
use traintrue_protocol::vocabulary::Moment;

use crate::Tensors;
use crate::checkpoint::Place;
use crate::model::{Model, values};
use crate::optimizer::Optimizer;
use crate::window::Window;

/// Sums in a tensor's sketch.
const SKETCHES: u64 = 2;

/// The norm of each gradient of the last update, before clipping.
pub type Norms = BTreeMap<String, f64>;

/// The norm of each weight's gradient: 0 where it was given none.
pub fn norms(model: &Model, gradients: &Tensors) -> Result<Norms> {
    let of = |name: &String| {
        let Some(gradient) = gradients.get(name) else { return Ok((name.clone(), 0.0)) };
        Ok((name.clone(), norm([&values(gradient)?[..]])))
    };
    model.named.keys().map(of).collect()
}

/// A few signed sums of a tensor.
pub fn sketched(tensor: &Tensor) -> Result<Vec<Number>> {
    Ok(sketch(&values(tensor)?, SKETCHES).into_iter().map(Number).collect())
}

/// A tensor's extents.
pub fn extents(tensor: &Tensor) -> Vec<u64> {
    tensor.dims().iter().map(|&extent| extent as u64).collect()
}

/// Of all weights.
pub fn digest(model: &Model) -> Result<String> {
    let mut digest = Digest::new();
    for var in model.named.values() {
        digest = digest.values(&values(var)?);
    }
    Ok(digest.text())
}

/// Everything that the next update depends on, but for moments that cannot be read.
pub fn state(
    at: Moment,
    place: Place,
    model: &Model,
    optimizer: &Optimizer,
    window: &Window,
    norms: &Norms,
) -> Result<State> {
    let tensor = |(name, var): (&String, &candle_core::Var)| {
        Ok(TensorState {
            name: name.clone(),
            group: "base".to_owned(),
            shape: extents(var),
            dtype: "f32".to_owned(),
            trainable: true,
            optimized: true,
            decay: None,
            digest: Digest::new().values(&values(var)?).text(),
            moments: match optimizer {
                Optimizer::Own(own) => Some(own.digest(name)?),
                Optimizer::Candle(_) => None,
            },
            grad_norm: norms.get(name).copied().map(Number),
            sketch: sketched(var)?,
        })
    };
    Ok(State {
        tensors: model.named.iter().map(tensor).collect::<Result<_>>()?,
        rng: model.dropout.digest(),
        schedule_step: Some(place.step),
        cursor: Some(Cursor { epoch: place.epoch, micro_batches: place.done }),
        window: Some(window.counts.micro_batches),
        window_digest: Some(window.digest()?),
        ..State::new(at, place.step)
    })
}
