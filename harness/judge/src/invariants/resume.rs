//! What a run is after it was stopped, saved, loaded or killed.

pub mod checkpoints;
mod recorded;
pub mod reload_outputs;
pub mod reload_sets;
pub mod seam;
