//! What a run holds in memory, and what it gives back.

pub mod breaker;
pub mod estimate;
pub mod heap;
pub mod peak;
pub mod process;
pub mod unload;
