//! The integration tests: all of it together, through the real binary or with the reference trainer in this process.

#![allow(clippy::unwrap_used, reason = "a test that cannot go on fails")]
#![forbid(unsafe_code)]

// Runs the binary as a user does.
mod binary;
// Every scenario file is a test.
mod scenarios;
// Every fault is caught by what must catch it, and by nothing unlisted.
mod kill_matrix;
// What looks like a leak and is none.
mod controls;
// The reference trainer in this process.
mod in_process;
// Ended by a signal, a run leaves nothing behind.
#[cfg(target_os = "linux")]
mod interrupted;
// Random plans.
mod strategies;
// What must be true of every plan.
mod properties;
// What is written is what is read.
mod round_trips;
// The published schemas against the code that reads the same documents.
mod schema;
// A checkpoint whose bytes changed on the disk.
mod damage;
// A run in parts.
mod partition;
// No false alarm on random plans.
mod random_plans;
// Small inputs that tests begin from.
mod inputs;
// Verbs, exit codes and documents.
mod command;
mod noise;
// A trainer in another language: what it does right, and each way in which it goes wrong.
mod any_program;
// What a repository says of its trainer: limits, conventions, waivers.
mod config;
// The snippets of the scenario cookbook are scenarios.
mod cookbook;
// What the README shows is what the code does.
mod readme;
// The examples of the protocol's documentation are run as they are printed.
#[cfg(unix)]
mod protocol_readme;
// Any command, watched: its memory, its steps, its end.
#[cfg(target_os = "linux")]
mod watch;
// What memory is predicted to be needed, and what is.
mod estimate;
// Memory series against limits.
mod gate;
// Logs that libraries wrote, as check and gate read them.
mod logs;
// What is refused, and how.
mod bad_input;
// What a run has left behind: logs, adapters, weights.
mod check_artefacts;
// The command that a finding prints finds it again.
mod reproduce;
// What a person reads, as it is.
mod snapshots;
// What a person opens in a browser.
mod report;
// Schedules and windows against values worked out by hand.
mod tables;
// The devices that a plan names.
mod devices;
// An adapter of wgpu.
#[cfg(all(unix, feature = "wgpu"))]
mod wgpu;
// What machines run.
#[cfg(unix)]
mod ci_scripts;
// What the suite says about others' trainers, from the traces that are kept.
mod results;
// The recorder for PyTorch.
mod python;
// What is true of the sources themselves.
mod tidy;
