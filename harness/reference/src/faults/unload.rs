//! Faults of unloading a model: memory stays held.

use burn::tensor::Tensor;

use super::Fault;
use crate::callback::Callback;
use crate::engine::{Engine, Inner};
use crate::model::Parameters;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        // The order of report 4: the cache keeps a model that is still in use when the cache is cleared.
        ("cache-cleared-before-the-drop", |parts| {
            parts.unload = |model, models, device| {
                models.clear(device);
                drop(model);
            };
        }),
        ("reference-kept-after-unload", |parts| parts.callbacks.push(Box::new(Keeper(Vec::new())))),
    ]
}

/// A list with one tensor per model, for a statistic that nothing reads.
struct Keeper<E: Engine>(Vec<Tensor<Inner<E>, 2>>);

impl<E: Engine> Callback<E> for Keeper<E> {
    fn unloading(&mut self, parameters: &Parameters<Inner<E>>) {
        self.0.extend(parameters.0.first().map(|parameter| parameter.value.clone()));
    }
}
