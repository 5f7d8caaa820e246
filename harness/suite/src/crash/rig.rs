//! Runs the two commands in one place: `{out}` has the same path in every run, because scripts write paths into their files.

use std::collections::HashMap;
use std::ffi::OsString;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::rc::Rc;
use std::time::{Duration, Instant};

use blake3::Hash;

use super::CrashError;
use super::observe::Resumed;
use super::trace::{self, Errand, Status, Watch};
use super::tree::{Store, Tree, clear};

/// The word that stands for the folder of the run.
pub const PLACE: &str = "{out}";
/// A resume that takes longer than this many fault-free runs, and [`PATIENCE`] more, hangs.
const RUNS: u32 = 10;
const PATIENCE: Duration = Duration::from_secs(60);
/// How many lines of a failed command are shown.
const LINES: usize = 4;

/// What came of a resume.
#[derive(Debug)]
pub struct Outcome {
    /// How the command ended.
    pub status: Status,
    /// Its last lines.
    pub said: String,
    /// What is below `{out}` afterwards.
    pub end: Tree,
    /// What it read and made.
    pub resumed: Resumed,
}

/// A place to run in.
#[derive(Debug)]
pub struct Rig {
    /// `{out}`, without links in its path.
    pub root: PathBuf,
    log: PathBuf,
    command: Vec<OsString>,
    resume: Vec<OsString>,
    limit: Duration,
    outcomes: HashMap<Hash, Rc<Outcome>>,
}

impl Rig {
    /// In the folder `work`, which exists.
    pub fn new(work: &Path, command: &[OsString], resume: &[OsString]) -> Result<Self, CrashError> {
        let work = fs::canonicalize(work)?;
        let root = work.join("out");
        Ok(Self {
            log: work.join("log.txt"),
            command: placed(command, &root, "the command")?,
            resume: placed(resume, &root, "--resume")?,
            limit: PATIENCE,
            outcomes: HashMap::new(),
            root,
        })
    }

    /// Runs the command to its end in an empty `{out}`.
    pub fn whole(&mut self, watch: &mut impl Watch) -> Result<(), CrashError> {
        clear(&self.root)?;
        let began = Instant::now();
        let status = self.run(&self.command, None, watch)?;
        self.limit = began.elapsed() * RUNS + PATIENCE;
        match status {
            Status::Exited(0) => Ok(()),
            status => Err(CrashError::Failed { status: shown(status), said: self.said()? }),
        }
    }

    /// Resumes on a tree, once for all trees that the command cannot tell apart.
    pub fn resume(&mut self, tree: &Tree, store: &mut Store) -> Result<Rc<Outcome>, CrashError> {
        let fingerprint = tree.fingerprint();
        if let Some(known) = self.outcomes.get(&fingerprint) {
            return Ok(known.clone());
        }
        store.restore(tree, &self.root)?;
        let mut resumed = Resumed::default();
        let status = self.run(&self.resume, Some(self.limit), &mut resumed)?;
        resumed.read.retain(|path| tree.content(path).is_some());
        let end = store.read(&self.root)?;
        let outcome = Rc::new(Outcome { status, said: self.said()?, end, resumed });
        self.outcomes.insert(fingerprint, outcome.clone());
        Ok(outcome)
    }

    /// How many different trees were resumed.
    pub fn resumes(&self) -> usize {
        self.outcomes.len()
    }

    fn run(
        &self,
        words: &[OsString],
        limit: Option<Duration>,
        watch: &mut impl Watch,
    ) -> Result<Status, CrashError> {
        let errand = Errand { words, root: &self.root, log: &self.log, limit };
        trace::run(&errand, watch).map_err(|error| match error.kind() {
            io::ErrorKind::PermissionDenied => CrashError::NotPermitted(error),
            _ => CrashError::Io(error),
        })
    }

    /// The last lines of the command. `{out}` is named as the user names it.
    fn said(&self) -> io::Result<String> {
        let log =
            String::from_utf8_lossy(&fs::read(&self.log)?).replace(&*self.root.to_string_lossy(), PLACE);
        let lines: Vec<&str> = log.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
        Ok(lines[lines.len().saturating_sub(LINES)..].join("\n"))
    }
}

/// A status in words.
pub fn shown(status: Status) -> String {
    match status {
        Status::Exited(code) => format!("exit status {code}"),
        Status::Signalled(signal) => format!("ended by signal {signal}"),
        Status::TimedOut => "did not end: killed".to_owned(),
    }
}

fn placed(words: &[OsString], root: &Path, what: &'static str) -> Result<Vec<OsString>, CrashError> {
    let place = |word: &OsString| match word.to_str() {
        Some(text) => text.replace(PLACE, &root.to_string_lossy()).into(),
        None => word.clone(),
    };
    let put: Vec<OsString> = words.iter().map(place).collect();
    if put == words { Err(CrashError::NoPlace { what }) } else { Ok(put) }
}
