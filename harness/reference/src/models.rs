//! A cache of loaded models.
//!
//! Two users of one model share it. Clearing the cache frees the models that nobody uses, as `torch.cuda.empty_cache` and
//! `mlx.clear_cache` do with buffers: a model that is still in use stays loaded.

use std::collections::HashMap;
use std::rc::Rc;

use crate::engine::Engine;
use crate::model::SizeError;
use crate::state::State;

/// Loaded models by size name.
pub struct Models<E: Engine>(HashMap<String, Rc<State<E>>>);

impl<E: Engine> Models<E> {
    /// A cache without a model.
    pub fn empty() -> Self {
        Self(HashMap::new())
    }

    /// The model of this name; `load` is called where the cache does not hold it.
    pub fn get(
        &mut self,
        name: &str,
        load: impl FnOnce() -> Result<State<E>, SizeError>,
    ) -> Result<Rc<State<E>>, SizeError> {
        if let Some(loaded) = self.0.get(name) {
            return Ok(Rc::clone(loaded));
        }
        let loaded = Rc::new(load()?);
        self.0.insert(name.to_owned(), Rc::clone(&loaded));
        Ok(loaded)
    }

    /// Frees every model that has no other user, and returns unused memory of the device's pool to the device.
    pub fn clear(&mut self, device: &E::Device) {
        self.0.retain(|_, model| Rc::strong_count(model) > 1);
        E::release_unused(device);
    }
}

/// Unloads a model. The reference is dropped before the cache is cleared: the cache keeps what is still in use.
pub fn unload<E: Engine>(model: Rc<State<E>>, models: &mut Models<E>, device: &E::Device) {
    drop(model);
    models.clear(device);
}
