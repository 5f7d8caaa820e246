//! Whether a process did what its plan asked, and wrote a trace.

pub mod answers;
pub mod ends;
