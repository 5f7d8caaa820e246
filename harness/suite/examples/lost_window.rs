//! The trainer of `resumable.rs` with one bug, as most trainers have it: a checkpoint brings back weights,
//! moments and the place in the data, and the gradients gathered since the last update are gone.
//!
//!     cargo build -p traintrue --example lost_window
//!     traintrue run resume-mid-window --trainer target/debug/examples/lost_window

#[path = "resumable.rs"]
mod resumable;

use resumable::{Resumable, State, Window};

/// The trainer with its bug.
pub fn trainer() -> Resumable {
    let restore = |mut state: State| {
        state.window = Window::default();
        state
    };
    Resumable { restore }
}

#[allow(dead_code, reason = "tests have a main function of their own")]
fn main() -> std::process::ExitCode {
    traintrue::trainer_main(trainer)
}
