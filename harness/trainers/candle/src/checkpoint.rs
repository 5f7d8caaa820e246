//! What a checkpoint holds: the weights as `VarMap` writes them, and the place; with our own AdamW the rest as well.

use std::collections::HashMap;
use std::fs;
use std::path::Path;

use candle_core::{Device, safetensors};
use serde::{Deserialize, Serialize};
use traintrue_protocol::TrainerError;

use crate::model::Model;
use crate::optimizer::Optimizer;
use crate::window::{Counts, Window};

const WEIGHTS: &str = "weights.safetensors";
const MOMENTS: &str = "moments.safetensors";
const WINDOW: &str = "window.safetensors";
const STATE: &str = "state.json";

/// Where training stands.
#[derive(Clone, Copy, Default, Serialize, Deserialize)]
pub struct Place {
    /// Updates done.
    pub step: u64,
    pub epoch: u64,
    /// Micro-batches of the epoch that are done.
    pub done: u64,
}

#[derive(Serialize, Deserialize)]
struct Saved {
    place: Place,
    masks: u64,
    window: Counts,
}

/// Writes one.
pub fn save(
    folder: &Path,
    place: Place,
    model: &Model,
    optimizer: &Optimizer,
    window: &Window,
) -> Result<(), TrainerError> {
    fs::create_dir_all(folder)?;
    model.weights.save(folder.join(WEIGHTS))?;
    if let Optimizer::Own(own) = optimizer {
        own.save(&folder.join(MOMENTS))?;
        let gradients = window.gradients.iter().map(|(name, gradient)| (name.as_str(), gradient.clone()));
        safetensors::save(&gradients.collect::<HashMap<_, _>>(), folder.join(WINDOW))?;
    }
    let saved = Saved { place, masks: model.dropout.drawn.get(), window: window.counts };
    Ok(fs::write(folder.join(STATE), serde_json::to_vec(&saved)?)?)
}

/// Reads one. candle's AdamW begins anew, and so does the window with it.
pub fn load(
    folder: &Path,
    model: &mut Model,
    optimizer: &mut Optimizer,
    window: &mut Window,
) -> Result<Place, TrainerError> {
    model.weights.load(folder.join(WEIGHTS))?;
    let saved: Saved = serde_json::from_slice(&fs::read(folder.join(STATE))?)?;
    if let Optimizer::Own(own) = optimizer {
        own.load(&folder.join(MOMENTS))?;
        let gradients = safetensors::load(folder.join(WINDOW), &Device::Cpu)?.into_iter().collect();
        *window = Window { counts: saved.window, gradients };
    }
    model.dropout.drawn.set(saved.masks);
    Ok(saved.place)
}
