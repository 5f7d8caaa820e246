//! The trace: what happened, in order.

pub mod event;
mod make;
mod read;
pub mod recorded;
pub mod since;
mod write;

pub use event::Event;
pub use read::{LINE_LIMIT_BYTES, Line, TraceError, TraceReader};
pub use write::TraceWriter;
