//! The integration tests: all of it together, through the real binary or with the reference trainer in this process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]

// Runs the binary as a user does.
mod binary;
// Every scenario file is a test.
mod scenarios;
// Every fault is caught by what must catch it, and by nothing unlisted.
mod kill_matrix;
// The reference trainer in this process.
mod in_process;
// Random plans.
mod strategies;
// What must be true of every plan.
mod properties;
// What is written is what is read.
mod round_trips;
// No false alarm on random plans.
mod random_plans;
// Small inputs that tests begin from.
mod inputs;
// Verbs, exit codes and documents.
mod command;
// What is refused, and how.
mod bad_input;
// The command that a finding prints finds it again.
mod reproduce;
// What a person reads, as it is.
mod snapshots;
// Schedules and windows against values worked out by hand.
mod tables;
// What is true of the sources themselves.
mod tidy;
