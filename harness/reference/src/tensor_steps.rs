//! What an update does to each tensor, at a few places: for the judge, which makes the step again.

use burn::tensor::backend::Backend;
use traintrue_protocol::number::Number;
use traintrue_protocol::trace::event::TensorStep;

use crate::engine::{Engine, Inner};
use crate::model::to_vec;
use crate::state::State;
use crate::window::GradientSet;

/// Places of a tensor.
const PLACES: usize = 8;
/// The first updates are told; then those at the powers of two, over which a schedule moves far.
const FIRST: u64 = 4;

/// Whether the update with this number is told.
pub fn is_told(step: u64) -> bool {
    step <= FIRST || step.is_power_of_two()
}

/// The gradients of one micro-batch at the places of each tensor; none for a frozen one.
pub type Added = Vec<Option<Vec<Number>>>;

/// The gradients of one micro-batch at the places of each tensor.
pub fn added<B: Backend>(gradients: &GradientSet<B>) -> Added {
    gradients.iter().map(|gradient| gradient.as_ref().map(at_places)).collect()
}

/// What each tensor was before an update.
pub struct Before {
    steps: Vec<Option<TensorStep>>,
}

impl Before {
    /// The tensors that get a gradient, with the gradients that were not clipped yet, and what each micro-batch added to
    /// them.
    pub fn of<E: Engine>(state: &State<E>, unclipped: &GradientSet<Inner<E>>, added: &[Added]) -> Self {
        let parameters = state.parameters.0.iter().zip(&state.optimizer.moments).zip(unclipped).enumerate();
        let steps = parameters.map(|(tensor, ((parameter, moments), gradient))| {
            let (moments, gradient) = (moments.as_ref()?, gradient.as_ref()?);
            let before = |values: Vec<Number>| values.into_iter().map(|it| [it, it]).collect();
            Some(TensorStep {
                name: parameter.name.clone(),
                shape: parameter.shape.iter().map(|&extent| extent as u64).collect(),
                added: added.iter().filter_map(|added| added.get(tensor)?.clone()).collect(),
                unclipped: at_places(gradient),
                before: at_places(&parameter.value),
                first: before(at_places(&moments.first)),
                second: before(at_places(&moments.second)),
                ..TensorStep::default()
            })
        });
        Self { steps: steps.collect() }
    }

    /// The same tensors after the update with the gradients `given`.
    pub fn after<E: Engine>(self, state: &State<E>, given: &GradientSet<Inner<E>>) -> Vec<TensorStep> {
        let parameters = state.parameters.0.iter().zip(&state.optimizer.moments).zip(given);
        let told =
            self.steps.into_iter().zip(parameters).filter_map(|(step, ((parameter, moments), gradient))| {
                let (mut step, moments, gradient) = (step?, moments.as_ref()?, gradient.as_ref()?);
                step.gradient = at_places(gradient);
                step.after = at_places(&parameter.value);
                step.updates = moments.updates;
                let pairs = [(&mut step.first, &moments.first), (&mut step.second, &moments.second)];
                for (told, tensor) in pairs {
                    told.iter_mut().zip(at_places(tensor)).for_each(|(pair, after)| pair[1] = after);
                }
                Some(step)
            });
        told.collect()
    }
}

/// The values at the same places of every tensor with as many elements, from its first to its last.
fn at_places<B: Backend>(tensor: &burn::tensor::Tensor<B, 2>) -> Vec<Number> {
    let values = to_vec(tensor.clone());
    let count = PLACES.min(values.len());
    let place = |at: usize| at * (values.len() - 1) / (count - 1).max(1);
    (0..count).map(|at| Number(f64::from(values[place(at)]))).collect()
}
