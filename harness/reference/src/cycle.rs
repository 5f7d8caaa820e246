//! Loads a model, uses it and unloads it again, as a program does that goes through several.
//!
//! A model that was loaded is kept in a cache, so that who asks for it again shares it. Clearing the cache lets go of the
//! models that nobody uses, as torch.cuda.empty_cache and mlx.clear_cache do with buffers: one that is still in use stays.

use std::collections::HashMap;
use std::rc::Rc;

use traintrue_protocol::plan::{Boundary, Plan};
use traintrue_protocol::trace::Event;

use crate::engine::Engine;
use crate::error::TrainError;
use crate::model::SizeError;
use crate::parts::Parts;
use crate::probe::probe;
use crate::recorder::Recorder;
use crate::state::State;

/// Loaded models by name.
pub struct Models<E: Engine>(HashMap<String, Rc<State<E>>>);

impl<E: Engine> Models<E> {
    /// The model of `plan`, loaded unless it is here.
    fn load(&mut self, plan: &Plan, parts: &Parts<E>, device: &E::Device) -> Result<Rc<State<E>>, SizeError> {
        if let Some(loaded) = self.0.get(&plan.model.size) {
            return Ok(Rc::clone(loaded));
        }
        let loaded = Rc::new(State::fresh(plan, parts, device)?);
        self.0.insert(plan.model.size.clone(), Rc::clone(&loaded));
        Ok(loaded)
    }

    /// Lets go of every model that nobody else uses, and gives what the device's own pool has spare back.
    pub fn clear(&mut self, device: &E::Device) {
        self.0.retain(|_, model| Rc::strong_count(model) > 1);
        E::release_unused(device);
    }
}

/// Unloads a model. The textbook's order: first let go of it, then clear the cache, which keeps what is in use.
pub fn unload<E: Engine>(model: Rc<State<E>>, models: &mut Models<E>, device: &E::Device) {
    drop(model);
    models.clear(device);
}

/// Goes through the plan's cycles.
pub fn cycles<E: Engine, W: std::io::Write>(
    plan: &Plan,
    parts: &mut Parts<E>,
    device: &E::Device,
    recorder: &mut Recorder<W>,
) -> Result<(), TrainError> {
    let mut models = Models(HashMap::new());
    for (number, model) in plan.cycles.iter().enumerate() {
        let model = {
            let plan = Plan { model: model.clone(), ..plan.clone() };
            let loaded = models.load(&plan, parts, device)?;
            for wanted in &plan.probes {
                let at = format!("cycle-{}", number + 1);
                recorder.write(Event::Probe(Box::new(probe(wanted, &at, &plan, parts, &loaded, device))))?;
            }
            loaded
        };
        recorder.memory(Boundary::Load, 0)?;
        parts.observers.iter_mut().for_each(|observer| observer.unloading(&model.parameters));
        (parts.unload)(model, &mut models, device);
        recorder.memory(Boundary::Unload, 0)?;
    }
    Ok(())
}
