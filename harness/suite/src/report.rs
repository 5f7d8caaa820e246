//! Verdicts for people and for programs. Reporting computes no verdict: it shows what a document holds.

pub mod catalogue;
mod course;
mod curve;
pub mod explain;
mod folded;
pub mod html;
pub mod json;
pub mod junit;
pub mod list;
pub mod markdown;
mod paint;
pub mod pictures;
pub mod plot;
mod printable;
pub mod sarif;
pub mod text;

#[cfg(test)]
mod tests;
#[cfg(test)]
pub(crate) use tests::finding as example;
