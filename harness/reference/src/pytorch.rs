//! The trainer held to PyTorch's numbers: the goldens of `golden/pytorch`, which their generator computes in f64.
//!
//! **How near is near.** A golden has no error but its rounding to f32; what is compared is off by its own. With the unit
//! roundoff `u` of f32, a sum of `n` terms is off by at most `6 sqrt(n) u` times the norm of its terms, but for a
//! probability below 1e-7 (Higham and Mary, 2019; `traintrue_judge::bound` has the worst case, which is wider than some bugs
//! are large). `n` counts what an element is summed over, forward and backward, as `bound::gradient_terms` does. An error
//! is a vector, and is measured by its L2 norm.
//!
//! **That it can fail.** The generator also computes what known bugs would give, and writes how far that lies from the
//! right numbers. A trainer with such a bug is within the tolerance of the bug's numbers, so it is seen where those lie
//! more than two tolerances away: a test says so of each of them. Faults of the museum are planted as well, and must be
//! seen.

mod adapters;
mod golden;
mod optimizer;
mod pointwise;
mod schedules;
mod training;
