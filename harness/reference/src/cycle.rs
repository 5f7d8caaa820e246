//! The plan's cycles: loads, probes and unloads one model after another, before training.

use traintrue_protocol::Recorder;
use traintrue_protocol::plan::{Boundary, Plan};

use crate::engine::Engine;
use crate::error::TrainError;
use crate::models::Models;
use crate::parts::Parts;
use crate::probe::probe;
use crate::state::State;

/// Runs the cycles of `plan`. Memory is sampled while each model is loaded, and after it is unloaded.
pub fn cycles<E: Engine>(
    plan: &Plan,
    parts: &mut Parts<E>,
    device: &E::Device,
    recorder: &mut Recorder,
) -> Result<(), TrainError> {
    let mut models = Models::empty();
    for (number, model) in plan.cycles.iter().enumerate() {
        let model = {
            let plan = Plan { model: model.clone(), ..plan.clone() };
            let load = || State::fresh(&plan, plan.seed, 0, parts.update.optimizes, device);
            let loaded = models.get(&plan.model.size, load)?;
            for wanted in &plan.probes {
                let at = format!("cycle-{}", number + 1);
                recorder.write(|| probe(wanted, &at, &plan, parts, &loaded, device))?;
            }
            loaded
        };
        // The plan's copy is gone here: a sample shows the model and nothing else of the cycle.
        recorder.memory_at(Boundary::Load, 0)?;
        parts.call(|callback| callback.unloading(&model.parameters));
        (parts.unload)(model, &mut models, device);
        recorder.memory_at(Boundary::Unload, 0)?;
    }
    Ok(())
}
