//! Where training computes: other backends, and devices that are too small.

pub mod backends;
pub mod fallback;
pub mod oom;
