//! What happens where a device is too small.

pub mod fallback;
pub mod oom;
