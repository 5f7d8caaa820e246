//! `traintrue crash` where ptrace is not Linux's: it says so.

use std::ffi::OsString;

use clap::Args;

use crate::Done;

/// Kills a training script at each file operation of its saves and resumes it; on Linux only (x86-64, arm64).
#[derive(Args, Debug)]
pub struct CrashArgs {
    /// The command and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub fn crash(args: &CrashArgs) -> Done {
    let command = args.command.join(" ".as_ref());
    Err(format!("crash needs Linux on x86-64 or arm64: {} was not started", command.display()).into())
}
