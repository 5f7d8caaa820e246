//! The linear regression of `linear_regression.rs` with one bug, as most trainers have it: a checkpoint brings back weights,
//! moments and the place in the data, and the gradients gathered since the last update are gone.
//!
//!     cargo build -p traintrue --example lost_window
//!     traintrue run resume-mid-window --trainer target/debug/examples/lost_window

#[path = "linear_regression.rs"]
mod linear_regression;

use linear_regression::{LinearRegression, State, Window};

/// The trainer with its bug.
pub fn trainer() -> LinearRegression {
    let restore = |mut state: State| {
        state.window = Window::default();
        state
    };
    LinearRegression { restore }
}

#[allow(dead_code, reason = "tests have a main function of their own")]
fn main() -> std::process::ExitCode {
    traintrue::trainer_main(trainer)
}
