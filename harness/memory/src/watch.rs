//! Watches a command: samples the memory of its process tree, finds its steps, forwards signals, and stops it before
//! the machine runs out of memory. Linux only.

mod limit;
mod output;
mod pattern;
mod processes;
mod record;
mod report;
mod throttle;
mod trace;
mod wake;
mod watcher;

pub use limit::{Reason, Sent, Stopped};
pub use pattern::{PatternError, StepPattern};
pub use record::{LANES, Record, Sample};
pub use report::{LaneReport, WatchReport};
pub use throttle::Throttle;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::bytes::{Bytes, Per};
use super::machine;
use limit::Limit;
use processes::Processes;
use trace::TraceTail;
use wake::Caught;
use watcher::{Gpus, Watcher};

/// Where to find the command's steps.
#[derive(Clone, Debug)]
pub enum Steps {
    /// Nowhere: growth is counted per second.
    Unseen,
    /// In lines of standard output or standard error.
    Output(StepPattern),
    /// In the `update` events of a trace that the command writes.
    Trace(PathBuf),
}

/// The command to watch, and how to watch it.
#[derive(Clone, Debug)]
pub struct Request {
    /// The command and its arguments.
    pub command: Vec<OsString>,
    /// The time between two samples.
    pub every: Duration,
    /// Where to find the command's steps.
    pub steps: Steps,
    /// The command is stopped when its process tree holds this much.
    pub max_memory: Option<Bytes>,
    /// The time between SIGTERM and SIGKILL.
    pub grace: Duration,
    /// Whether its standard output goes to this process's standard error.
    pub output_to_stderr: bool,
    /// A CSV file that gets every sample.
    pub samples: Option<PathBuf>,
}

/// A command that has ended.
#[derive(Debug)]
pub struct Watched {
    /// How it ended.
    pub exit: ExitStatus,
    /// Why and how the watcher stopped it, if it did.
    pub stopped: Option<Stopped>,
    /// The memory that it held.
    pub record: Record,
    /// Its processes that are still alive. The watcher leaves them alone, unless it stopped the command.
    pub survivors: Vec<i32>,
}

/// Is told what happens while a command is watched. It must not block: the limit is not checked meanwhile.
pub trait Observer {
    /// A sample was taken.
    fn sampled(&mut self, record: &Record);
    /// The command is being stopped.
    fn stopping(&mut self, stopped: &Stopped);
}

/// A command that cannot be watched.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum WatchError {
    #[error("there is no command to watch; expected one after --")]
    NoCommand,
    #[error("the command {command:?} cannot be started: {source}")]
    Start { command: String, source: io::Error },
    #[error(
        "--max-memory: {asked} is more than the {machine} that this machine gives a command, so it would run out of \
         memory first; give a smaller limit"
    )]
    BeyondMachine { asked: Bytes, machine: Bytes },
    #[error("{path}: cannot write the samples: {source}", path = .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the command cannot be watched: {0}")]
    System(#[from] io::Error),
}

/// Runs a command and watches it until it ends.
///
/// For a process that does nothing else: it catches the signals of this process, and takes all later children of this
/// process for the command's.
///
/// When the command ends by itself, processes that it leaves behind stay alive. When the watcher stops the command, it
/// stops all of them.
pub fn watch(request: &Request, observer: &mut dyn Observer) -> Result<Watched, WatchError> {
    let limit = limit(request)?;
    let per = if matches!(request.steps, Steps::Unseen) { Per::Second } else { Per::Step };
    let unwritten = |source| {
        let path = request.samples.clone().unwrap_or_default();
        WatchError::Write { path, source }
    };
    let gpus = Gpus::open();
    let lanes = if gpus.is_some() { &LANES[..] } else { &LANES[..1] };
    let record = Record::new(request.samples.as_deref(), per, lanes).map_err(unwritten)?;
    let (wake, wakes) = sync_channel(64);
    let _caught = Caught::send_to(wake.clone())?;
    let tail = match &request.steps {
        Steps::Trace(path) => Some(TraceTail::follow(path.clone())),
        _ => None,
    };
    let processes = Processes::begin(&mut command(request)?).map_err(|source| WatchError::Start {
        command: request.command[0].to_string_lossy().into_owned(),
        source,
    })?;
    let mut watcher = Watcher::new(processes, limit, record, tail, gpus, observer);
    let copying = watcher.pass_output(request, &wake)?;
    let exit = watcher.run(&wakes, request.every)?;
    copying.finish();
    let (mut record, stopped, survivors) = watcher.end();
    record.finish().map_err(unwritten)?;
    Ok(Watched { exit, stopped, record, survivors })
}

/// The requested limit, if it is below the machine's memory.
fn limit(request: &Request) -> Result<Option<Limit>, WatchError> {
    let machine = machine::capacity();
    match (request.max_memory, machine) {
        (Some(asked), Some(machine)) if asked > machine => Err(WatchError::BeyondMachine { asked, machine }),
        (max, machine) => Ok(max.map(|max| Limit { max, grace: request.grace, machine })),
    }
}

/// The command with its standard streams. It runs in a background process group, where reading from the terminal would
/// stop it (SIGTTIN). A standard input that is a terminal is therefore replaced by an empty one.
fn command(request: &Request) -> Result<Command, WatchError> {
    let (program, arguments) = request.command.split_first().ok_or(WatchError::NoCommand)?;
    let mut command = Command::new(program);
    command.args(arguments);
    if io::stdin().is_terminal() {
        command.stdin(Stdio::null());
    }
    if matches!(request.steps, Steps::Output(_)) {
        command.stdout(Stdio::piped()).stderr(Stdio::piped());
    } else if request.output_to_stderr {
        command.stdout(io::stderr().as_fd().try_clone_to_owned()?);
    }
    Ok(command)
}
