//! Faults of unloading: what should be free again is not.

use burn::tensor::Tensor;

use super::Fault;
use crate::engine::{Engine, Inner};
use crate::model::Parameters;
use crate::observer::Observer;

/// The faults of this family.
pub fn table<E: Engine>() -> Vec<Fault<E>> {
    vec![
        // Report 4's order: what is still in use when the cache is cleared stays in it.
        ("cache-cleared-before-the-drop", |parts| {
            parts.unload = |model, models, device| {
                models.clear(device);
                drop(model);
            };
        }),
        ("reference-kept-after-unload", |parts| parts.observers.push(Box::new(Keeper(Vec::new())))),
    ]
}

/// A list of one tensor of each model, for a statistic that nobody reads.
struct Keeper<E: Engine>(Vec<Tensor<Inner<E>, 2>>);

impl<E: Engine> Observer<E> for Keeper<E> {
    fn unloading(&mut self, parameters: &Parameters<Inner<E>>) {
        self.0.extend(parameters.0.first().map(|parameter| parameter.value.clone()));
    }
}
