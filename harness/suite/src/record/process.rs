//! Runs a command with our own standard streams, and passes signals on to it.
//!
//! The command stays in our process group, so that it can read from the terminal. What the terminal sends, it sends to the
//! whole group; to pass that on would interrupt the command twice.

use std::io;
use std::process::{Command, ExitStatus};

use super::RecordError;

/// Runs the command to its end.
pub(super) fn run(mut command: Command) -> Result<ExitStatus, RecordError> {
    let program = command.get_program().to_owned();
    let start = |source| RecordError::Start { program, source };
    attended(&mut command, start)
}

#[cfg(unix)]
fn attended(
    command: &mut Command,
    start: impl FnOnce(io::Error) -> RecordError,
) -> Result<ExitStatus, RecordError> {
    use std::io::IsTerminal;
    use std::thread;

    use rustix::process::{Pid, Signal, kill_process};
    use signal_hook::consts::{SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2};
    use signal_hook::iterator::Signals;

    // Before the command starts: a signal must not end us and leave the command running without a verdict.
    let mut signals =
        Signals::new([SIGHUP, SIGINT, SIGQUIT, SIGTERM, SIGUSR1, SIGUSR2]).map_err(RecordError::Signals)?;
    let by_terminal = io::stdin().is_terminal();
    let mut child = command.spawn().map_err(start)?;
    let pid = i32::try_from(child.id()).ok().and_then(Pid::from_raw);
    let handle = signals.handle();
    let passing = thread::spawn(move || {
        for signal in signals.forever().filter(|signal| !(by_terminal && [SIGINT, SIGQUIT].contains(signal)))
        {
            if let (Some(pid), Some(signal)) = (pid, Signal::from_named_raw(signal)) {
                // Fails only where the command has just ended.
                let _ = kill_process(pid, signal);
            }
        }
    });
    let status = child.wait();
    handle.close();
    let _ = passing.join();
    status.map_err(RecordError::Signals)
}

#[cfg(not(unix))]
fn attended(
    command: &mut Command,
    start: impl FnOnce(io::Error) -> RecordError,
) -> Result<ExitStatus, RecordError> {
    command.status().map_err(start)
}

/// The status as a shell gives it: 128 and the number of the signal that ended the command.
pub(super) fn code(status: ExitStatus) -> u8 {
    #[cfg(unix)]
    let signal = std::os::unix::process::ExitStatusExt::signal(&status).map(|signal| 128 + signal);
    #[cfg(not(unix))]
    let signal = None;
    let code = signal.or(status.code()).unwrap_or(1);
    u8::try_from(code).unwrap_or(1)
}
