//! What is true of every training loop, judged on traces of loops that were told no plan.
//!
//! A fact that the user declared, or that a framework's settings gave, is held strictly. Without it, a loop is held to what
//! most of it does, and the finding says what that was. Each rule judges each optimizer by itself.

pub mod average;
pub mod clip;
pub mod decay;
pub mod evaluation;
pub mod gradients;
pub mod learns;
pub mod loss_scale;
pub mod mode;
pub mod optimizer;
pub mod rate;
pub mod recompute;
pub mod samples;
pub mod schedule;
mod seen;
pub mod window;

#[cfg(test)]
pub(crate) mod testing;
