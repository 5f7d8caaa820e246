//! Verdicts for people and for programs. Reporting computes no verdict: it shows what a document holds.

pub mod explain;
pub mod json;
pub mod junit;
pub mod list;
mod paint;
pub mod text;

pub use paint::Paint;

#[cfg(test)]
mod tests;
