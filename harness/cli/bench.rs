//! What `run`, `faults` and `accept` share: the trainer, the text, the scenarios and where everything goes.

use std::ffi::OsString;
use std::io;
use std::num::NonZero;
use std::path::{Path, PathBuf};
use std::time::Duration;

use clap::{Args, value_parser};
use tempfile::TempDir;
use traintrue::config::{self, Config};
use traintrue::interrupt;
use traintrue::program::{Program, scratch};
use traintrue::runner::{Observer, Runner};
use traintrue::scenario::{Catalogue, Corpus, Scenario, randomised};
use traintrue::suite::Suite;
use traintrue_judge::verdict::Part;
use traintrue_memory::bytes::Bytes;
use traintrue_protocol::contract::{Description, Stated};
use traintrue_protocol::nearest;
use traintrue_reference::Device;

use crate::keep::{self, KeepError};

/// How long a trainer may take to describe itself.
const DESCRIBE_TIMEOUT: Duration = Duration::from_secs(60);

/// The reference trainer's device, where nothing else is asked for.
const DEVICE: &str = "ndarray";

/// How long one process may take, where nothing else is asked for.
const TIMEOUT_SECONDS: u32 = 600;

/// What is asked for on the command line.
#[derive(Args, Clone, Debug)]
pub struct BenchArgs {
    /// Only the scenarios whose ids begin so; every scenario where none is given.
    #[arg(value_name = "FILTER")]
    pub filters: Vec<String>,
    /// The reference trainer's device: ndarray, which is the default, flex, cuda:0 or wgpu:0.
    #[arg(long)]
    pub device: Option<String>,
    /// A folder of your own scenarios, beside ours.
    #[arg(long, value_name = "DIR")]
    pub scenarios: Option<PathBuf>,
    /// Your own text, one {"text": …} a line.
    #[arg(long, value_name = "FILE")]
    pub corpus: Option<PathBuf>,
    /// Only a part of these scenarios, as slice:2/3: every third, from the second on. `traintrue merge` puts the reports of
    /// all parts together.
    #[arg(long, value_name = "PART")]
    pub partition: Option<Part>,
    /// Processes at one time; by default one a core.
    #[arg(long, value_name = "N", value_parser = value_parser!(u16).range(1..))]
    pub jobs: Option<u16>,
    /// Seconds that one process may take; 600 where nothing else is asked for.
    #[arg(long, value_name = "SECONDS", value_parser = value_parser!(u32).range(1..))]
    pub timeout: Option<u32>,
    /// Keep traces and reports in this folder.
    #[arg(long, value_name = "DIR")]
    pub report: Option<PathBuf>,
}

/// Whom to run, and what the repository says of it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Request<'a> {
    /// A foreign trainer's command.
    pub trainer: Option<&'a str>,
    /// A fault to plant in the reference trainer.
    pub fault: Option<&'a str>,
    /// The seed of random plans.
    pub seed: Option<u64>,
    /// What the command line calls the configuration, where it names one.
    pub config_path: Option<&'a Path>,
    /// The configuration.
    pub config: Option<&'a Config>,
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
}

/// Everything opened and ready.
pub struct Bench {
    pub program: Program,
    pub description: Description,
    pub corpus: Corpus,
    pub catalogue: Catalogue,
    pub arguments: Vec<String>,
    pub report: Option<keep::Folder>,
    /// What a reader of every verdict should know.
    pub notes: Vec<String>,
    timeout: Duration,
    scratch: TempDir,
}

impl BenchArgs {
    /// Everything as it is by default, on `device`.
    pub fn on(device: &str) -> Self {
        Self {
            filters: Vec::new(),
            device: Some(device.to_owned()),
            scenarios: None,
            corpus: None,
            partition: None,
            jobs: None,
            timeout: None,
            report: None,
        }
    }

    /// The reference trainer's device.
    pub fn device(&self) -> &str {
        self.device.as_deref().unwrap_or(DEVICE)
    }

    /// Opens everything. The command line goes over the configuration.
    pub fn open(&self, request: &Request) -> Result<Bench, Box<dyn std::error::Error>> {
        let nothing = Config::default();
        let config = request.config.unwrap_or(&nothing);
        let (catalogue, mut notes) = config::catalogue(self.scenarios.as_deref(), config)?;
        request.fault.map(known_fault).transpose()?;
        let program = match request.trainer.or(config.trainer.as_deref()) {
            Some(command) => {
                // What the file states is stated of the trainer that the file names.
                let of_it = config.trainer.as_deref().is_none_or(|own| own == command);
                let contract = if of_it { config.contract.clone() } else { Stated::default() };
                let stated = (contract != Stated::default())
                    .then(|| format!("stated in {}: {contract}", config.path.display()));
                notes.extend(stated);
                Program::parse(command)?.stating(contract)
            }
            None => {
                self.device().parse::<Device>()?.probe()?;
                reference(self.device(), request.fault)?
            }
        };
        let program = match config.trace {
            Some(Bytes(limit)) => program.with_trace_limit(limit),
            None => program,
        };
        let description = program.describe(DESCRIBE_TIMEOUT)?;
        let program = if description.serve { program.serving() } else { program };
        let corpus = match &self.corpus {
            Some(path) => Corpus::open(path)?,
            None => Corpus::shipped()?,
        };
        if let Some(jobs) = self.jobs.or(config.jobs.map(NonZero::get)) {
            // One process per thread: as many run, and as many traces are read, at one time.
            rayon::ThreadPoolBuilder::new().num_threads(jobs.into()).build_global()?;
        }
        interrupt::listen()?;
        let timeout = self.timeout.or(config.timeout_seconds.map(NonZero::get)).unwrap_or(TIMEOUT_SECONDS);
        Ok(Bench {
            program,
            description,
            corpus,
            catalogue,
            arguments: self.arguments(request),
            report: self.report.as_deref().map(keep::folder).transpose()?,
            notes,
            timeout: Duration::from_secs(timeout.into()),
            scratch: scratch()?,
        })
    }

    /// The options that change what happens, for the command that shows a finding again.
    fn arguments(&self, request: &Request) -> Vec<String> {
        let path = |path: &Path| path.display().to_string();
        let options = [
            ("--config", request.config_path.map(path)),
            ("--trainer", request.trainer.map(str::to_owned)),
            ("--device", self.device.clone().filter(|device| device != DEVICE || request.fault.is_none())),
            ("--scenarios", self.scenarios.as_deref().map(path)),
            ("--corpus", self.corpus.as_deref().map(path)),
            ("--timeout", self.timeout.map(|seconds| seconds.to_string())),
            ("--seed", request.seed.map(|seed| seed.to_string())),
            ("--fault", request.fault.map(str::to_owned)),
        ];
        options
            .into_iter()
            .flat_map(|(name, value)| value.map(|value| [name.to_owned(), value]))
            .flatten()
            .collect()
    }
}

impl Bench {
    /// The chosen scenarios, or a part of them, on the random plans of `seed` where one is given.
    pub fn scenarios(
        &self,
        filters: &[String],
        part: Option<Part>,
        seed: Option<u64>,
    ) -> Result<Vec<Scenario>, Box<dyn std::error::Error>> {
        let chosen = self.catalogue.select(filters)?;
        let chosen = match part {
            Some(part) => part.of(chosen),
            None => chosen,
        };
        Ok(chosen
            .into_iter()
            .map(|scenario| seed.map_or_else(|| scenario.clone(), |seed| randomised(scenario, seed)))
            .collect())
    }

    /// What is wrong with the chosen files that are no scenarios.
    pub fn refused(&self, filters: &[String]) -> Vec<String> {
        self.catalogue.refused(filters).map(|refused| refused.problem.clone()).collect()
    }

    /// The suite over all of it.
    pub fn suite<'a>(&'a self, observer: &'a dyn Observer) -> Suite<'a> {
        let runner = Runner {
            program: &self.program,
            capabilities: &self.description.capabilities,
            timeout: self.timeout,
            observer,
        };
        Suite {
            description: &self.description,
            corpus: &self.corpus,
            runner,
            scratch: self.scratch.path(),
            report: self.report.as_ref().map(|folder| folder.path.as_path()),
            arguments: &self.arguments,
        }
    }

    /// Writes a file of the report, if a report is kept.
    pub fn keep(&self, name: &str, text: impl AsRef<[u8]>) -> Result<(), KeepError> {
        self.report.as_ref().map_or(Ok(()), |folder| keep::file(&folder.path, name, text))
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
