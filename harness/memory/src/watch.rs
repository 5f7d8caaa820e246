//! Watches a command: samples the memory of its process tree, finds its steps, passes signals on, and ends it before it
//! takes the machine down. Linux only.

mod bell;
mod family;
mod limit;
mod output;
mod pattern;
mod record;
mod report;
mod sparing;
mod trace;
mod watcher;

pub use limit::{Reason, Sent, Stopped};
pub use pattern::{PatternError, StepPattern};
pub use record::{LANES, Record, Sample};
pub use report::{LaneReport, WatchReport};
pub use sparing::Sparing;

use std::ffi::OsString;
use std::io::{self, IsTerminal};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::process::{Command, ExitStatus, Stdio};
use std::sync::mpsc::sync_channel;
use std::time::Duration;

use super::bytes::{Bytes, Per};
use super::machine;
use bell::Caught;
use family::Family;
use limit::Limit;
use trace::TraceTail;
use watcher::{Gpus, Watcher};

/// Where steps can be seen.
#[derive(Clone, Debug)]
pub enum Steps {
    /// Nowhere: samples by time.
    Unseen,
    /// In lines of standard output or standard error.
    Output(StepPattern),
    /// In the `update` events of a trace that the command writes.
    Trace(PathBuf),
}

/// What to watch, and how.
#[derive(Clone, Debug)]
pub struct Request {
    /// The command and its arguments.
    pub command: Vec<OsString>,
    /// Between two samples.
    pub every: Duration,
    /// Where steps can be seen.
    pub steps: Steps,
    /// The command is ended before its process tree holds more.
    pub max_memory: Option<Bytes>,
    /// How long it may take to end after it was asked to; then it is killed.
    pub grace: Duration,
    /// Whether its standard output goes to this process's standard error.
    pub output_to_stderr: bool,
    /// A CSV file that gets every sample.
    pub samples: Option<PathBuf>,
}

/// A command that came to its end.
#[derive(Debug)]
pub struct Watched {
    /// How it ended.
    pub exit: ExitStatus,
    /// Why and how it was ended, where it was.
    pub stopped: Option<Stopped>,
    /// What it held.
    pub record: Record,
    /// Those of its processes that live on. They were left alone, unless the command was ended.
    pub survivors: Vec<i32>,
}

/// Sees what happens while a command is watched. It must not block: the limit is not watched meanwhile.
pub trait Observer {
    /// A sample was taken.
    fn sampled(&mut self, record: &Record);
    /// The command is being ended.
    fn stopping(&mut self, stopped: &Stopped);
}

/// A command that cannot be watched.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum WatchError {
    #[error("there is no command to watch: expected one after --")]
    NoCommand,
    #[error("the command {command:?} cannot be started: {source}")]
    Start { command: String, source: io::Error },
    #[error(
        "--max-memory: {asked} is more than the {machine} that this machine lets a command have: it would be out of memory first"
    )]
    BeyondMachine { asked: Bytes, machine: Bytes },
    #[error("{path}: cannot write the samples: {source}", path = .path.display())]
    Write { path: PathBuf, source: io::Error },
    #[error("the command cannot be watched: {0}")]
    System(#[from] io::Error),
}

/// Runs a command to its end and watches it.
///
/// For a process that does nothing else: it catches the signals of this process, and takes all that this process begets
/// from here on for the command's.
///
/// When the command ends by itself, processes that it left behind live on. When it is ended, all of them are.
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
    let (bell, rings) = sync_channel(64);
    let _caught = Caught::ring(bell.clone())?;
    let tail = match &request.steps {
        Steps::Trace(path) => Some(TraceTail::follow(path.clone())),
        _ => None,
    };
    let family = Family::begin(&mut command(request)?).map_err(|source| WatchError::Start {
        command: request.command[0].to_string_lossy().into_owned(),
        source,
    })?;
    let mut watcher = Watcher::new(family, limit, record, tail, gpus, observer);
    let copying = watcher.pass_output(request, &bell)?;
    let exit = watcher.run(&rings, request.every)?;
    copying.finish();
    let (mut record, stopped, survivors) = watcher.end();
    record.finish().map_err(unwritten)?;
    Ok(Watched { exit, stopped, record, survivors })
}

/// The limit that was asked for, where the machine can keep it.
fn limit(request: &Request) -> Result<Option<Limit>, WatchError> {
    let machine = machine::capacity();
    match (request.max_memory, machine) {
        (Some(asked), Some(machine)) if asked > machine => Err(WatchError::BeyondMachine { asked, machine }),
        (max, machine) => Ok(max.map(|max| Limit { max, grace: request.grace, machine })),
    }
}

/// The command with its standard streams. It is not in the foreground of the terminal, where reading would stop it for
/// good: a standard input that is a terminal is empty.
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
