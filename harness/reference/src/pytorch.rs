//! Compares the trainer with PyTorch: the goldens of `golden/pytorch`, which their generator computes in f64.
//!
//! **The tolerance.** A golden's only error is its rounding to f32. With the unit roundoff `u` of f32, a sum of `n` terms
//! has an error of at most `6 sqrt(n) u` times the norm of its terms, except with a probability below 1e-7 (Higham and
//! Mary, 2019). `traintrue_judge::bound` has the worst case, which is larger than the effect of some bugs. `n` is the
//! number of terms per element, forward and backward, as in `bound::gradient_terms`. An error is a vector, measured by its
//! L2 norm.
//!
//! **That the tests can fail.** The generator also computes the numbers of known bugs, and their distance from the right
//! numbers. A trainer with a bug is within one tolerance of the bug's numbers, so a test sees the bug where the distance is
//! more than two tolerances. One test checks this distance for each bug. Faults of the museum are planted, too, and must be
//! seen.

mod adapters;
mod golden;
mod optimizer;
mod pointwise;
mod schedules;
mod training;
