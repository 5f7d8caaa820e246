//! A trainer behind a command: a plan on its standard input, a trace on its standard output, one fresh process a run.
//!
//! ```text
//! $ python my_trainer.py describe
//! {"schema":1,"trainer":"my-trainer 2.1","capabilities":["resume"],"contract":{…}}
//!
//! $ python my_trainer.py run < plan.json
//! {"event":"run","schema":1,…}
//! {"event":"micro_batch",…}
//! {"event":"end","reason":"done"}
//! ```

#[cfg(unix)]
mod guardian;
#[cfg(not(unix))]
#[path = "program/guardian_elsewhere.rs"]
mod guardian;
mod process;
#[cfg(unix)]
mod server;
#[cfg(not(unix))]
#[path = "program/server_elsewhere.rs"]
mod server;
mod stating;

use std::ffi::OsString;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use tempfile::TempDir;
use traintrue_judge::evidence::Ending;
use traintrue_protocol::contract::{Description, Stated};
use traintrue_protocol::plan::{Plan, SCHEMA};

use crate::interrupt;
use process::{Limits, Stop, attend};
use server::{Servers, attend_connected};
use stating::Stating;

/// A trace that grows beyond this is cut off and its trainer killed, unless another limit is set: it would fill the disk.
pub const TRACE_LIMIT_BYTES: u64 = 8 << 30;

/// `describe` answers one line.
const ANSWER_LIMIT_BYTES: u64 = 1 << 20;

/// A disk with less space than this is full: not even a small trace fits.
#[cfg(unix)]
const SPACE_LEAST_BYTES: u64 = 64 << 10;

/// What is shown of a trainer's standard error.
const COMPLAINT_BYTES: u64 = 600;

/// The two commands of a trainer.
#[derive(Clone, Debug)]
pub struct Program {
    describe: Vec<OsString>,
    run: Vec<OsString>,
    /// Where the trainer serves.
    servers: Option<Arc<Servers>>,
    stated: Stated,
    trace_limit_bytes: u64,
}

/// One process to run.
#[derive(Debug)]
pub struct Errand<'a> {
    /// What it is told.
    pub plan: &'a Plan,
    /// Added to its environment.
    pub environment: Vec<(&'static str, String)>,
    /// The file that gets its standard output.
    pub trace: &'a Path,
    /// The file that gets its standard error.
    pub complaints: &'a Path,
    /// It is killed when it takes longer.
    pub timeout: Duration,
    /// It is killed at this age, on purpose.
    pub kill_after: Option<Duration>,
    /// It is killed once this is true: the processes that it waits for are gone.
    pub given_up: Option<&'a AtomicBool>,
}

/// A process that came to an end.
#[derive(Clone, Debug)]
pub struct Ended {
    /// How.
    pub ending: Ending,
    /// After how long.
    pub wall: Duration,
}

/// A temporary folder, which goes with this process however that ends. Fails where none can be made.
pub fn scratch() -> io::Result<TempDir> {
    let folder = tempfile::Builder::new().prefix("traintrue-").tempdir()?;
    guardian::removes(folder.path());
    Ok(folder)
}

/// A trainer that cannot be asked for anything.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ProgramError {
    #[error("--trainer: {command:?} is not a command: its quotes do not match or it is empty")]
    NotACommand { command: String },
    #[error("the trainer {command:?} cannot be started: {source}")]
    Start { command: String, source: io::Error },
    #[error(
        "{command:?} {problem}; expected one line of JSON and exit status 0 within {seconds} s{complaint}"
    )]
    Describe { command: String, problem: String, seconds: u64, complaint: String },
    #[error("{command:?} answered something else than a description: {source}; it began {answer:?}")]
    Garbage { command: String, answer: String, source: serde_json::Error },
    #[error("{command:?} speaks schema {found}, this command speaks schema {SCHEMA}")]
    Schema { command: String, found: u32 },
    #[error("cannot write into the folder for temporary files, {path}: {source}; set TMPDIR to one that can be written", path = .path.display())]
    Temporary { path: PathBuf, source: io::Error },
    #[error("{path}: no space is left beside it, so what the trainer did there says nothing of it; set TMPDIR to a folder with space", path = .path.display())]
    Full { path: PathBuf },
    #[error("interrupted by signal {signal}")]
    Interrupted { signal: i32 },
    #[error("{path}: cannot write what the trainer says: {source}", path = .path.display())]
    Write { path: PathBuf, source: io::Error },
}

impl Program {
    /// A trainer with two different commands.
    pub fn new(describe: Vec<OsString>, run: Vec<OsString>) -> Self {
        Self { describe, run, servers: None, stated: Stated::default(), trace_limit_bytes: TRACE_LIMIT_BYTES }
    }

    /// The same trainer, under the conventions that its user states in place of its own: they stand in its description and
    /// in the first line of each of its traces.
    pub fn stating(self, stated: Stated) -> Self {
        Self { stated, ..self }
    }

    /// The same trainer, killed where a trace grows beyond so many bytes.
    pub fn with_trace_limit(self, bytes: u64) -> Self {
        Self { trace_limit_bytes: bytes, ..self }
    }

    /// A trainer that takes `describe` or `run` as its last argument; `command` is split as a shell would.
    pub fn parse(command: &str) -> Result<Self, ProgramError> {
        let words = shlex::split(command).filter(|words| !words.is_empty());
        let words = words.ok_or_else(|| ProgramError::NotACommand { command: command.to_owned() })?;
        let with = |verb: &str| words.iter().map(OsString::from).chain([OsString::from(verb)]).collect();
        Ok(Self::new(with("describe"), with("run")))
    }

    /// The same trainer, whose runs are forks of a process that imports what it needs once. For a trainer whose description
    /// says that this is safe. Its runs stay processes of their own on systems without fork.
    pub fn serving(self) -> Self {
        let mut words = self.run.clone();
        if let Some(verb) = words.last_mut() {
            *verb = "serve".into();
        }
        Self { servers: Some(Arc::new(Servers::new(words))), ..self }
    }

    /// The same trainer, with more arguments when it runs.
    pub fn with_arguments(&self, arguments: &[&str]) -> Self {
        let mut program = Self { servers: None, ..self.clone() };
        program.run.extend(arguments.iter().map(OsString::from));
        program
    }

    /// Asks what the trainer is and can do.
    pub fn describe(&self, timeout: Duration) -> Result<Description, ProgramError> {
        let shown = shown(&self.describe);
        let start = |source| ProgramError::Start { command: shown.clone(), source };
        let temporary = |source| ProgramError::Temporary { path: std::env::temp_dir(), source };
        let file = tempfile::NamedTempFile::new().map_err(temporary)?;
        let output = file.reopen().map_err(temporary)?;
        let mut complaints = tempfile::tempfile().map_err(temporary)?;
        let limits = Limits {
            timeout,
            kill_after: None,
            given_up: None,
            output_bytes: ANSWER_LIMIT_BYTES,
            complaints: &complaints,
        };
        let (stop, _) = attend(command(&self.describe), Vec::new(), output, limits).map_err(start)?;
        interrupted()?;
        let problem = match stop {
            Stop::Exited(status) if status.success() => None,
            Stop::Exited(status) => Some(format!("ended with {status}")),
            Stop::TimedOut | Stop::Killed | Stop::GivenUp => Some("did not end".to_owned()),
            Stop::TooLong => Some("did not end its answer".to_owned()),
        };
        if let Some(problem) = problem {
            let complaint = match complaint(&mut complaints) {
                nothing if nothing.is_empty() => nothing,
                said => format!("; its standard error ends: {said}"),
            };
            return Err(ProgramError::Describe {
                command: shown,
                problem,
                seconds: timeout.as_secs(),
                complaint,
            });
        }
        let answer = std::fs::read(file.path()).map_err(start)?;
        understand(shown, &String::from_utf8_lossy(&answer), &self.stated)
    }

    /// Runs one plan to its end, or to the process's. Fails where the process cannot be started or its output not be kept.
    pub fn run(&self, errand: &Errand) -> Result<Ended, ProgramError> {
        let start = |source| ProgramError::Start { command: shown(&self.run), source };
        let create = |path: &Path| {
            File::create(path).map_err(|source| ProgramError::Write { path: path.to_owned(), source })
        };
        let complaints =
            File::options().read(true).write(true).create(true).truncate(true).open(errand.complaints);
        let mut complaints = complaints
            .map_err(|source| ProgramError::Write { path: errand.complaints.to_owned(), source })?;
        let output = || -> Result<Box<dyn Write + Send>, ProgramError> {
            let trace = create(errand.trace)?;
            Ok(match self.stated == Stated::default() {
                true => Box::new(trace),
                false => Box::new(Stating::new(trace, self.stated.clone())),
            })
        };
        let plan = serde_json::to_vec(errand.plan).map_err(|error| start(error.into()))?;
        let limits = Limits {
            timeout: errand.timeout,
            kill_after: errand.kill_after,
            given_up: errand.given_up,
            output_bytes: self.trace_limit_bytes,
            complaints: &complaints,
        };
        let server = self.servers.as_ref().and_then(|servers| servers.next(&errand.plan.scenario));
        let fork = server.and_then(|server| server.fork(errand.complaints, &errand.environment).ok());
        let attended = match fork {
            Some((connection, fork)) => attend_connected(fork, connection, plan, output()?, limits),
            None => {
                let mut command = command(&self.run);
                command.envs(errand.environment.iter().map(|(key, value)| (key, value)));
                attend(command, plan, output()?, limits)
            }
        };
        let (stop, wall) = attended.map_err(start)?;
        interrupted()?;
        let ending = match stop {
            Stop::Exited(status) if status.success() => Ending::Done,
            Stop::Exited(_) if is_full(errand.trace) => {
                return Err(ProgramError::Full { path: errand.trace.to_owned() });
            }
            Stop::Exited(status) => Ending::Failed {
                code: status.code(),
                status: status.to_string(),
                complaint: complaint(&mut complaints),
            },
            Stop::Killed => Ending::Killed,
            Stop::GivenUp => Ending::LeftAlone,
            Stop::TimedOut => Ending::TimedOut { after: errand.timeout },
            Stop::TooLong => Ending::TooLong { limit_bytes: self.trace_limit_bytes },
        };
        Ok(Ended { ending, wall })
    }
}

/// How a process ended that we killed, because we are to end, says nothing about the trainer.
fn interrupted() -> Result<(), ProgramError> {
    interrupt::signal().map_or(Ok(()), |signal| Err(ProgramError::Interrupted { signal }))
}

/// Whether the disk that a file is on has no space left: a trainer that fails there fails because of us.
#[cfg(unix)]
fn is_full(file: &Path) -> bool {
    rustix::fs::statvfs(file)
        .is_ok_and(|disk| disk.f_bavail.saturating_mul(disk.f_frsize) < SPACE_LEAST_BYTES)
}

#[cfg(not(unix))]
fn is_full(_file: &Path) -> bool {
    false
}

fn command(words: &[OsString]) -> Command {
    let mut command = Command::new(&words[0]);
    command.args(&words[1..]);
    command
}

fn shown(words: &[OsString]) -> String {
    words.iter().map(|word| word.to_string_lossy()).collect::<Vec<_>>().join(" ")
}

fn understand(command: String, answer: &str, stated: &Stated) -> Result<Description, ProgramError> {
    #[derive(serde::Deserialize)]
    struct Version {
        schema: u32,
    }
    let garbage = |source| ProgramError::Garbage {
        command: command.clone(),
        answer: answer.chars().take(80).collect(),
        source,
    };
    let version: Version = serde_json::from_str(answer).map_err(garbage)?;
    if version.schema != SCHEMA {
        return Err(ProgramError::Schema { command, found: version.schema });
    }
    if *stated == Stated::default() {
        return serde_json::from_str(answer).map_err(garbage);
    }
    let mut described: serde_json::Value = serde_json::from_str(answer).map_err(garbage)?;
    stated.lay_over(&mut described);
    serde_json::from_value(described).map_err(garbage)
}

/// The end of what a process wrote to its standard error, on one line, the last line first.
fn complaint(file: &mut File) -> String {
    let mut end = Vec::new();
    let length = file.seek(SeekFrom::End(0)).unwrap_or(0);
    let read = file
        .seek(SeekFrom::Start(length.saturating_sub(COMPLAINT_BYTES)))
        .and_then(|_| file.take(COMPLAINT_BYTES).read_to_end(&mut end));
    // What cannot be read again is not shown; the file itself stays with the report.
    read.map_or_else(|_| String::new(), |_| the_last_line_first(&String::from_utf8_lossy(&end)))
}

/// The last line says what went wrong; those before it, as a traceback, say where.
fn the_last_line_first(said: &str) -> String {
    let words = |line: &str| line.split_whitespace().collect::<Vec<_>>().join(" ");
    let mut lines: Vec<String> = said.lines().map(words).filter(|line| !line.is_empty()).collect();
    match lines.pop() {
        None => String::new(),
        Some(last) if lines.is_empty() => last,
        Some(last) => format!("{last} (before it: {})", lines.join(" ")),
    }
}

#[cfg(test)]
#[cfg(unix)]
mod server_tests;
#[cfg(test)]
#[cfg(unix)]
mod tests;
