//! What a forward outside training gives: rows, padding, and the key-value cache.

pub mod cache;
pub mod neighbours;
pub mod rows;
