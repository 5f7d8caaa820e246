//! What a forward outside training gives: rows, padding, and the key-value cache.

pub mod cache;
pub mod fresh_adapter;
pub mod neighbours;
pub mod prefix;
pub mod rows;
mod start;
