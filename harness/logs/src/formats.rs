//! One file per format. Each gives [`crate::rows::Rows`]; `trainer_state.json` gives a [`crate::Log`].

pub(crate) mod json_lines;
pub(crate) mod mlflow;
mod protobuf;
pub(crate) mod table;
pub(crate) mod tensorboard;
pub mod text;
pub mod trainer_state;
pub(crate) mod wandb;
