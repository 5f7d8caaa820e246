//! The trainer's side: what a trainer is told, what it declares, and what it writes.
//!
//! ```text
//! plan ──> trainer ──> trace
//! ```

pub mod contract;
pub mod digest;
pub mod exit;
pub mod lanes;
pub mod limited;
pub mod nearest;
pub mod number;
pub mod plan;
pub mod recorder;
pub mod schema;
pub mod serve;
pub mod trace;
pub mod trainer;
pub mod version;
pub mod vocabulary;

pub use plan::Plan;
pub use recorder::Recorder;
pub use serve::trainer_main;
pub use trainer::{Trainer, TrainerError};
