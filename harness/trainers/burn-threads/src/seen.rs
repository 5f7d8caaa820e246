//! What the trace is told of parameters and gradients.

use traintrue_protocol::digest::{Digest, norm, sketch};
use traintrue_protocol::trace::event::{State, TensorState};
use traintrue_protocol::vocabulary::Moment;

use crate::model::{Training, values};

/// Signed sums per tensor.
const SKETCHES: u64 = 2;

/// Every parameter, and the norm of its gradient at the last update: 0 where burn gave none.
pub fn state(at: Moment, training: &Training) -> State {
    let parameters = training.model.parameters();
    let tensors = (0..).zip(parameters).map(|(place, (name, parameter))| {
        let values = values(parameter.val().inner());
        TensorState {
            name: name.to_owned(),
            group: "base".to_owned(),
            shape: parameter.dims().map(|extent| extent as u64).to_vec(),
            dtype: "f32".to_owned(),
            trainable: true,
            optimized: true,
            decay: None,
            digest: Digest::new().values(&values).text(),
            moments: None,
            grad_norm: training.gradients.get(place).map(|gradient| norm([&gradient[..]]).into()),
            sketch: sketch(&values, SKETCHES).into_iter().map(Into::into).collect(),
        }
    });
    State { tensors: tensors.collect(), ..State::new(at, training.steps) }
}
