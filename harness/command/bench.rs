//! What `run`, `faults` and `accept` share: the trainer, the text, the scenarios and where everything goes.

use std::ffi::OsString;
use std::io;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, value_parser};
use tempfile::TempDir;
use traintrue::contract::Description;
use traintrue::nearest;
use traintrue::parallel::Slots;
use traintrue::program::Program;
use traintrue::runner::{Observer, Runner};
use traintrue::scenario::{Catalogue, Corpus, Scenario, randomised};
use traintrue::suite::Suite;
use traintrue_reference::Device;

/// How long a trainer may take to describe itself.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(60);

/// How long one process may take, where nothing else is asked for.
const TIMEOUT_SECONDS: u32 = 600;

#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Only the scenarios whose ids begin so; every scenario where none is given.
    #[arg(value_name = "FILTER")]
    pub filters: Vec<String>,
    /// The reference trainer's device: ndarray, or cuda:0.
    #[arg(long, default_value = "ndarray")]
    pub device: String,
    /// A folder of your own scenarios, beside ours.
    #[arg(long, value_name = "DIR")]
    pub scenarios: Option<PathBuf>,
    /// Your own text, one {"text": …} a line.
    #[arg(long, value_name = "FILE")]
    pub corpus: Option<PathBuf>,
    /// Processes at one time; by default one a core.
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Seconds that one process may take.
    #[arg(long, value_name = "SECONDS", default_value_t = TIMEOUT_SECONDS, value_parser = value_parser!(u32).range(1..))]
    pub timeout: u32,
    /// Keep traces and reports in this folder.
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
}

/// A request that names something that is not there.
#[derive(Debug, thiserror::Error)]
pub enum BenchError {
    /// No such fault.
    #[error("--fault: no fault is called {name:?}{hint}")]
    Fault {
        /// What was asked for.
        name: String,
        /// What may have been meant.
        hint: String,
    },
    /// A folder that cannot be made.
    #[error("{path}: cannot make the folder: {source}", path = .path.display())]
    Folder {
        /// The folder.
        path: PathBuf,
        /// Why.
        source: io::Error,
    },
}

/// Everything opened and ready.
pub struct Bench {
    pub program: Program,
    pub description: Description,
    pub corpus: Corpus,
    pub catalogue: Catalogue,
    pub slots: Slots,
    pub arguments: Vec<String>,
    pub report: Option<PathBuf>,
    timeout: Duration,
    scratch: TempDir,
}

impl BenchArgs {
    /// Everything as it is by default, on `device`.
    pub fn on(device: &str) -> Self {
        Self {
            filters: Vec::new(),
            device: device.to_owned(),
            scenarios: None,
            corpus: None,
            jobs: None,
            timeout: TIMEOUT_SECONDS,
            report: None,
        }
    }

    /// Opens everything; `trainer` is a foreign trainer's command.
    pub fn open(
        &self,
        trainer: Option<&str>,
        fault: Option<&str>,
        seed: Option<u64>,
    ) -> Result<Bench, Box<dyn std::error::Error>> {
        let catalogue = Catalogue::load(self.scenarios.as_deref())?;
        if let Some(fault) = fault {
            known_fault(fault)?;
        }
        let program = match trainer {
            Some(command) => Program::parse(command)?,
            None => {
                self.device.parse::<Device>()?.probe()?;
                reference(&self.device, fault)?
            }
        };
        let description = program.describe(DESCRIBE_TIMEOUT)?;
        let corpus = match &self.corpus {
            Some(path) => Corpus::open(path)?,
            None => Corpus::shipped()?,
        };
        let cores = std::thread::available_parallelism().map_or(1, usize::from);
        Ok(Bench {
            program,
            description,
            corpus,
            catalogue,
            slots: Slots::new(self.jobs.map_or(cores, usize::from)),
            arguments: self.arguments(trainer, fault, seed),
            report: self.report.as_deref().map(folder).transpose()?,
            timeout: Duration::from_secs(self.timeout.into()),
            scratch: tempfile::Builder::new().prefix("traintrue-").tempdir()?,
        })
    }

    /// The options that change what happens, for the command that shows a finding again.
    fn arguments(&self, trainer: Option<&str>, fault: Option<&str>, seed: Option<u64>) -> Vec<String> {
        let path = |path: &PathBuf| path.display().to_string();
        let device = (self.device != "ndarray").then(|| self.device.clone());
        let options = [
            ("--trainer", trainer.map(str::to_owned)),
            ("--device", device.filter(|_| trainer.is_none())),
            ("--scenarios", self.scenarios.as_ref().map(path)),
            ("--corpus", self.corpus.as_ref().map(path)),
            ("--seed", seed.map(|seed| seed.to_string())),
            ("--fault", fault.map(str::to_owned)),
        ];
        options
            .into_iter()
            .flat_map(|(name, value)| value.map(|value| [name.to_owned(), value]))
            .flatten()
            .collect()
    }
}

impl Bench {
    /// The chosen scenarios, on the random plans of `seed` where one is given.
    pub fn scenarios(
        &self,
        filters: &[String],
        seed: Option<u64>,
    ) -> Result<Vec<Scenario>, Box<dyn std::error::Error>> {
        let chosen = self.catalogue.select(filters)?;
        Ok(chosen
            .into_iter()
            .map(|scenario| seed.map_or_else(|| scenario.clone(), |seed| randomised(scenario, seed)))
            .collect())
    }

    /// The suite over all of it.
    pub fn suite<'a>(&'a self, observer: &'a dyn Observer) -> Suite<'a> {
        let runner = Runner {
            program: &self.program,
            capabilities: &self.description.capabilities,
            timeout: self.timeout,
            slots: &self.slots,
            observer,
        };
        Suite {
            description: &self.description,
            corpus: &self.corpus,
            runner,
            scratch: self.scratch.path(),
            report: self.report.as_deref(),
            arguments: &self.arguments,
        }
    }

    /// Writes the report's file, where a report is kept.
    pub fn keep(&self, name: &str, text: &str) -> Result<(), BenchError> {
        let Some(folder) = &self.report else { return Ok(()) };
        let path = folder.join(name);
        std::fs::write(&path, text).map_err(|source| BenchError::Folder { path, source })
    }
}

/// The reference trainer: this very program.
pub fn reference(device: &str, fault: Option<&str>) -> io::Result<Program> {
    let own = std::env::current_exe()?.into_os_string();
    let words =
        |words: &[&str]| std::iter::once(own.clone()).chain(words.iter().map(OsString::from)).collect();
    let clean = Program::new(words(&["describe"]), words(&["train", "--device", device]));
    Ok(match fault {
        Some(fault) => clean.with_arguments(&["--fault", fault]),
        None => clean,
    })
}

fn known_fault(name: &str) -> Result<(), BenchError> {
    let known = traintrue_reference::faults();
    if known.contains(&name) {
        return Ok(());
    }
    let hint = nearest::hint(name, known);
    Err(BenchError::Fault { name: name.to_owned(), hint })
}

/// The folder, made where it is missing, as an absolute path: processes elsewhere write into it.
fn folder(path: &Path) -> Result<PathBuf, BenchError> {
    let failed = |source| BenchError::Folder { path: path.to_owned(), source };
    std::fs::create_dir_all(path).map_err(failed)?;
    path.canonicalize().map_err(failed)
}
