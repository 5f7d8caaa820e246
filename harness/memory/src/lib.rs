//! Memory that must not grow: reading, judging, limiting and estimating it.

#![forbid(unsafe_code)]

pub mod attribution;
pub mod bytes;
pub mod estimate;
pub mod exact;
pub mod gate;
pub mod guard;
#[cfg(target_os = "linux")]
pub mod machine;
pub mod markdown;
pub mod series;
pub mod slope;
#[cfg(any(test, feature = "testing"))]
#[doc(hidden)]
pub mod testing;
pub mod timeline;
#[cfg(target_os = "linux")]
pub mod tree;
#[cfg(target_os = "linux")]
pub mod watch;

pub use traintrue_protocol::{count_heap, lanes};
