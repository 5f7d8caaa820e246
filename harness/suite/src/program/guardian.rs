//! Ends what is left behind where this process dies without a chance to: by Ctrl-C, SIGTERM, or SIGKILL.
//!
//! A trainer is the leader of a process group of its own, so that it can be killed with all that it started. The same keeps
//! a terminal's Ctrl-C from it. So a shell stands by, in a group of its own, and reads from a pipe that this process holds:
//! the process groups that run, and the folders that are ours. At the end of the pipe it kills what still runs and removes
//! the folders, however the end came. What has left its group (`setsid`) is found by a mark in its environment, where there
//! is a `/proc`.

use std::io::{self, Write};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{ChildStdin, Command, Stdio};
use std::sync::{Mutex, OnceLock, PoisonError};

/// The name of the mark in a trainer's environment.
const MARK: &str = "TRAINTRUE_STARTED_BY";

/// Reads `+ GROUP`, `- GROUP` and `/ FOLDER`; a second round finds what was started while the first one killed.
const STANDING_BY: &str = r#"
trap '' HUP INT TERM QUIT
groups=' '
while read -r what it; do
  case $what in
    +) groups="$groups$it " ;;
    -) groups="${groups%% $it *} ${groups#* $it }" ;;
    /) set -- "$@" "$it" ;;
  esac
done
for group in $groups; do kill -9 -"$group"; done
for round in 1 2; do
  for environ in $(grep -lsz "^$MARK\$" /proc/[0-9]*/environ); do
    pid=${environ#/proc/}
    kill -9 "${pid%/environ}"
  done
done
for folder in "$@"; do rm -rf -- "$folder"; done
"#;

static GUARDIAN: OnceLock<Option<Guardian>> = OnceLock::new();

/// The shell that stands by.
#[derive(Debug)]
struct Guardian {
    pipe: Mutex<ChildStdin>,
}

/// Marks a command as ours.
pub fn mark(command: &mut Command) {
    command.env(MARK, std::process::id().to_string());
}

/// From now on a process group is killed where this process dies.
pub fn has(group: u32) {
    tell(format_args!("+ {group}\n"));
}

/// A process group has ended. Its number may be another's soon.
pub fn lets_go(group: u32) {
    tell(format_args!("- {group}\n"));
}

/// From now on a folder is removed where this process dies.
pub fn removes(folder: &Path) {
    let Some(text) = folder.to_str().filter(|text| !text.contains('\n')) else { return };
    tell(format_args!("/ {text}\n"));
}

/// Without a shell nobody stands by: a run is worth more than its tidiness.
fn tell(what: std::fmt::Arguments<'_>) {
    let guardian = GUARDIAN.get_or_init(|| Guardian::new().ok());
    if let Some(guardian) = guardian {
        let mut pipe = guardian.pipe.lock().unwrap_or_else(PoisonError::into_inner);
        let _ = pipe.write_fmt(what).and_then(|()| pipe.flush());
    }
}

impl Guardian {
    fn new() -> io::Result<Self> {
        let mut command = Command::new("sh");
        command.args(["-c", STANDING_BY, "traintrue-guardian"]);
        // The mark as grep sees it; the shell itself must not have it, or it would kill itself.
        command.env("MARK", format!("{MARK}={}", std::process::id()));
        let command = command.stdin(Stdio::piped()).stdout(Stdio::null()).stderr(Stdio::null());
        let mut child = command.process_group(0).spawn()?;
        let pipe = child.stdin.take().ok_or(io::ErrorKind::BrokenPipe)?;
        Ok(Self { pipe: Mutex::new(pipe) })
    }
}
