//! Memory that must not grow: what is measured, and what is judged from it.
//!
//! **Guards**, for a test of your own. Count the heap once per program, then put one line around the code under test.
//! A guard compares the heap to the byte, so that a leak shows in a few steps, long before the process grows:
//!
//! ```
//! traintrue_memory::count_heap!();
//!
//! # fn main() {
//! use traintrue_memory::guard;
//!
//! // Each step gives back what it takes.
//! guard::flat_over(100, |step| vec![step; 100].len()).unwrap();
//!
//! // Each step keeps eight bytes.
//! let mut losses = Vec::new();
//! let growth = guard::flat_over(100, |step| losses.push(Box::new(step))).unwrap_err();
//! assert!(growth.to_string().contains("the heap holds them"), "{growth}");
//! # }
//! ```
//!
//! **Slopes**, for a series that was measured elsewhere. Noise, warm-up and a pool that grew once are not growth:
//!
//! ```
//! use traintrue_memory::bytes::BytesPerStep;
//! use traintrue_memory::series::Point;
//! use traintrue_memory::slope::{SlopeVerdict, judge};
//!
//! let at = |step: u32, bytes: f64| Point { step: step.into(), bytes };
//! let warm_up: Vec<Point> = (0..500).map(|step| at(step, 1e6 * f64::from(step.min(40)))).collect();
//! let leak: Vec<Point> = (0..500).map(|step| at(step, 4e7 + 9e3 * f64::from(step))).collect();
//! let limit = BytesPerStep(1024.0);
//! assert_eq!(judge(&warm_up, limit).verdict, SlopeVerdict::Within);
//! assert_eq!(judge(&leak, limit).verdict, SlopeVerdict::Exceeds);
//! ```
//!
//! [`gate`] judges files by limits, [`estimate`] predicts what a model needs from its architecture alone, and on
//! Linux `watch` samples the process tree of any command.

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
