//! Memory that must not grow: what is measured, and what is judged from it.

pub mod attribution;
pub mod bytes;
pub mod device;
pub mod estimate;
pub mod exact;
pub mod gate;
pub mod guard;
pub mod heap;
pub mod lanes;
#[cfg(target_os = "linux")]
pub mod machine;
pub mod process;
pub mod series;
pub mod slope;
pub mod timeline;
#[cfg(target_os = "linux")]
pub mod tree;
#[cfg(target_os = "linux")]
pub mod watch;
