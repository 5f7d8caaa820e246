//! Runs a training script with the recorder of the Python package attached to it, and finds the traces that it leaves.
//!
//! The script is not changed. At its start Python imports `sitecustomize` from `PYTHONPATH`. Ours waits for torch and
//! attaches the recorder to torch's hooks. The command keeps its standard streams, its terminal and its exit status.

mod process;
mod schedule;

use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};

use include_dir::{Dir, DirEntry, include_dir};
use serde::Serialize;
use tempfile::TempDir;

pub use self::schedule::{Decay, Form, Rising, Schedule};

static PACKAGE: Dir = include_dir!("$CARGO_MANIFEST_DIR/python");
const PACKAGE_NAME: &str = "traintrue";
/// Where the package keeps its `sitecustomize.py`.
const HOOK: &str = "hook";
/// Made in the working directory where no other folder is named.
const OUT: &str = "traintrue-record";

/// The files by which the recorder says how far it came, for a run that leaves no trace.
const STARTED: &str = "started";
const TORCH: &str = "torch";

/// What to record.
#[derive(Clone, Debug, Default)]
pub struct Request {
    /// The program and its arguments.
    pub command: Vec<OsString>,
    /// The folder for the traces: a new or an empty one. By default `traintrue-record/N`, with the first N that is free.
    pub out: Option<PathBuf>,
    /// What the user says of the loop.
    pub declared: Declared,
    /// The file for what the command prints; by default the command has our standard streams.
    pub output: Option<PathBuf>,
}

/// What a user says of the loop. The recorder takes it as JSON.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Declared {
    /// Micro-batches per update.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub accumulation: Option<u64>,
    /// The norm that gradients are clipped to.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub clip: Option<f64>,
    /// Passes over the samples.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub epochs: Option<u64>,
    /// The learning-rate schedule.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub schedule: Option<Schedule>,
    /// Patterns of the names of the parameters that should train.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub trainable: Vec<String>,
    /// Weight decay of all that trains.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub decay: Option<f64>,
    /// Patterns of the names of the parameters that do not decay.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub no_decay: Vec<String>,
    /// Updates from one digest of the parameters to the next.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub digest_every: Option<u64>,
    /// Every state is recorded, to compare the run with another, and the run may be ended.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub cut: Option<Cut>,
}

/// A run that is compared with another.
#[derive(Clone, Copy, Debug, Serialize)]
pub struct Cut {
    /// Micro-batches after which the recorder ends the process; none: the run comes to its own end.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// How it ends the process.
    pub how: How,
}

/// How the recorder ends a process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub enum How {
    /// By `SystemExit`: `finally` blocks and exit handlers run.
    #[serde(rename = "exit")]
    Exit,
    /// By a signal that the script may handle; it goes on as long as it needs.
    #[serde(rename = "SIGTERM")]
    Sigterm,
    /// By a signal that nobody can handle.
    #[serde(rename = "SIGKILL")]
    Sigkill,
}

/// What a recorded command left.
#[derive(Debug)]
pub struct Recording {
    /// The folder of the traces.
    pub folder: PathBuf,
    /// One trace per process that trained, by name.
    pub traces: Vec<PathBuf>,
    /// How the command ended.
    pub status: ExitStatus,
}

/// A command that could not be recorded.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum RecordError {
    #[error("{}: cannot start the command: {source}", .program.to_string_lossy())]
    Start { program: OsString, source: io::Error },
    #[error("no command to record: put it after --, as in `traintrue record -- python train.py`")]
    NoCommand,
    #[error("--out: {path} is not empty: name a new folder, so that no earlier trace is mixed with this run's", path = .path.display())]
    NotEmpty { path: PathBuf },
    #[error("{path}: cannot use the folder of the recording: {source}", path = .path.display())]
    Folder { path: PathBuf, source: io::Error },
    #[error("{path}: cannot unpack the recorder: {source}", path = .path.display())]
    Unpack { path: PathBuf, source: io::Error },
    #[error("{path}: cannot keep the command's output: {source}", path = .path.display())]
    Output { path: PathBuf, source: io::Error },
    #[error("cannot watch the signals that the command is to get: {0}")]
    Signals(io::Error),
}

/// Runs the command to its end, recorded.
pub fn record(request: &Request) -> Result<Recording, RecordError> {
    let (program, arguments) = request.command.split_first().ok_or(RecordError::NoCommand)?;
    let folder = folder(request.out.as_deref())?;
    let package = unpack()?;
    let mut command = Command::new(program);
    command.args(arguments);
    command.env("PYTHONPATH", python_path(package.path()));
    command.env("TRAINTRUE_RECORD", &folder);
    // Facts are numbers and text: they always make a document.
    command.env("TRAINTRUE_DECLARED", serde_json::json!(request.declared).to_string());
    if let Some(path) = &request.output {
        let failed = |source| RecordError::Output { path: path.clone(), source };
        let file = fs::File::create(path).map_err(failed)?;
        command.stdin(Stdio::null()).stdout(file.try_clone().map_err(failed)?).stderr(file);
    }
    let status = process::run(command)?;
    let traces = traces(&folder).map_err(|source| RecordError::Folder { path: folder.clone(), source })?;
    Ok(Recording { folder, traces, status })
}

impl Recording {
    /// The exit status that the command would have given to a shell, where it failed.
    pub fn failure(&self) -> Option<u8> {
        (!self.status.success()).then(|| process::code(self.status))
    }

    /// Why there is no trace, as far as the recorder came, and what to do.
    pub fn nothing(&self) -> String {
        let reached = |file: &str| self.folder.join(file).exists();
        let why = if reached(TORCH) {
            "torch was imported, and no optimizer of torch.optim made a step"
        } else if reached(STARTED) {
            "Python started with the recorder, and the script never imported torch"
        } else {
            "no Python process imported the recorder: the command is not Python, it runs Python with -I, -S or -E, or it sets \
             PYTHONPATH itself; or the script never imported torch, or no optimizer made a step"
        };
        format!("no trace in {}: {why}", self.folder.display())
    }
}

/// The folder of this recording, empty and absolute.
fn folder(out: Option<&Path>) -> Result<PathBuf, RecordError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RecordError::Folder { path, source }
    };
    let folder = match out {
        Some(out) => {
            fs::create_dir_all(out).map_err(failed(out))?;
            if fs::read_dir(out).map_err(failed(out))?.next().is_some() {
                return Err(RecordError::NotEmpty { path: out.to_owned() });
            }
            out.to_owned()
        }
        None => first_free(Path::new(OUT)).map_err(failed(Path::new(OUT)))?,
    };
    fs::canonicalize(&folder).map_err(failed(&folder))
}

fn first_free(parent: &Path) -> io::Result<PathBuf> {
    fs::create_dir_all(parent)?;
    for number in 1u64.. {
        let folder = parent.join(number.to_string());
        // Two recordings may begin at once: who makes the folder has it.
        match fs::create_dir(&folder) {
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            made => return made.map(|()| folder),
        }
    }
    Err(io::ErrorKind::StorageFull.into())
}

/// The package in a temporary folder, which goes with the returned value.
fn unpack() -> Result<TempDir, RecordError> {
    let failed = |path: &Path| {
        let path = path.to_owned();
        move |source| RecordError::Unpack { path, source }
    };
    let folder = tempfile::tempdir().map_err(failed(&std::env::temp_dir()))?;
    let root = folder.path().join(PACKAGE_NAME);
    write(&PACKAGE, &root).map_err(failed(&root))?;
    Ok(folder)
}

fn write(folder: &Dir, to: &Path) -> io::Result<()> {
    fs::create_dir_all(to)?;
    for entry in folder.entries() {
        let Some(name) = entry.path().file_name() else { continue };
        match entry {
            // What Python compiled where this command was built is of another interpreter.
            DirEntry::Dir(_) if name == "__pycache__" => {}
            DirEntry::Dir(inner) => write(inner, &to.join(name))?,
            DirEntry::File(file) => fs::write(to.join(name), file.contents())?,
        }
    }
    Ok(())
}

/// Our hook and our package before what the user has.
fn python_path(unpacked: &Path) -> OsString {
    let ours = [unpacked.join(PACKAGE_NAME).join(HOOK), unpacked.to_owned()];
    let theirs = std::env::var_os("PYTHONPATH").filter(|it| !it.is_empty());
    let theirs: Vec<PathBuf> = theirs.iter().flat_map(std::env::split_paths).collect();
    // Fails only where a path holds the separator: then ours are the only ones that are certain.
    std::env::join_paths(ours.iter().chain(&theirs)).unwrap_or_else(|_| ours[1].clone().into())
}

/// The traces in the folder; a process that trained nothing may leave an empty file.
fn traces(folder: &Path) -> io::Result<Vec<PathBuf>> {
    let mut traces = Vec::new();
    for entry in fs::read_dir(folder)? {
        let entry = entry?;
        let path = entry.path();
        if path.extension().is_some_and(|extension| extension == "jsonl") && entry.metadata()?.len() > 0 {
            traces.push(path);
        }
    }
    traces.sort();
    Ok(traces)
}

#[cfg(test)]
#[cfg(unix)]
mod tests {
    use super::*;

    fn recorded(script: &str) -> (TempDir, Recording) {
        let out = tempfile::tempdir().unwrap();
        let request = Request {
            command: ["sh", "-c", script].map(OsString::from).to_vec(),
            out: Some(out.path().join("traces")),
            declared: Declared { accumulation: Some(4), ..Declared::default() },
            output: None,
        };
        let recording = record(&request).unwrap();
        (out, recording)
    }

    #[test]
    fn the_command_finds_the_recorder_the_folder_and_what_was_declared() {
        let script = "test -f ${PYTHONPATH#*:}/../x || echo \"$PYTHONPATH|$TRAINTRUE_DECLARED\" > $TRAINTRUE_RECORD/a.jsonl
            first=${PYTHONPATH%%:*}; ls ${first%/hook}/__init__.py >> $TRAINTRUE_RECORD/a.jsonl";
        let (_out, recording) = recorded(script);
        assert_eq!((recording.failure(), recording.traces.len()), (None, 1));
        let text = fs::read_to_string(&recording.traces[0]).unwrap();
        assert!(text.contains("/traintrue/hook:") && text.contains("{\"accumulation\":4}"), "{text}");
        assert!(text.ends_with("traintrue/__init__.py\n"), "{text}");
    }

    #[test]
    fn the_commands_own_failure_is_its_status_and_a_signal_is_128_and_its_number() {
        assert_eq!(recorded("exit 7").1.failure(), Some(7));
        assert_eq!(recorded("kill -TERM $$").1.failure(), Some(143));
    }

    #[test]
    fn without_a_trace_the_reason_is_how_far_the_recorder_came() {
        assert!(recorded("true").1.nothing().contains("runs Python with -I, -S or -E"));
        assert!(recorded("touch $TRAINTRUE_RECORD/started").1.nothing().contains("never imported torch"));
        let both = recorded(
            "touch $TRAINTRUE_RECORD/started $TRAINTRUE_RECORD/torch; : > $TRAINTRUE_RECORD/a.jsonl",
        )
        .1;
        assert!(both.traces.is_empty() && both.nothing().contains("made a step"));
    }

    #[test]
    fn no_recording_is_mixed_with_an_earlier_one() {
        let parent = tempfile::tempdir().unwrap();
        let [first, second] = [(), ()].map(|()| first_free(parent.path()).unwrap());
        assert!(first.ends_with("1") && second.ends_with("2"));
        let error = folder(Some(parent.path())).unwrap_err().to_string();
        assert!(error.contains("is not empty: name a new folder"), "{error}");
    }

    #[test]
    fn a_command_that_cannot_be_started_is_named() {
        let out = tempfile::tempdir().unwrap();
        let request = Request {
            command: vec!["no-such-program".into()],
            out: Some(out.path().join("traces")),
            ..Request::default()
        };
        let error = record(&request).unwrap_err().to_string();
        assert!(error.starts_with("no-such-program: cannot start the command"), "{error}");
    }
}
