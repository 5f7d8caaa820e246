//! Invariants over the ranks of one run: what they must share, and what each must have alone.

pub mod equal_one;
pub mod evaluation;
pub mod gradient;
pub mod in_step;
pub mod masks;
pub mod one_model;
pub mod own_state;
pub mod samples;

mod combination;
mod walk;

#[cfg(test)]
mod testing;
#[cfg(test)]
mod tests;
