//! `traintrue watch` where there is no `/proc` to read: it says so.

use std::ffi::OsString;

use clap::Args;

use crate::Done;

/// Runs any command and watches the memory of its process tree; on Linux only.
#[derive(Args, Debug)]
pub struct WatchArgs {
    /// The command and its arguments.
    #[arg(trailing_var_arg = true, allow_hyphen_values = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub fn watch(args: &WatchArgs) -> Done {
    let command = args.command.join(" ".as_ref());
    Err(format!("watch reads /proc and needs Linux: {} was not started", command.display()).into())
}
