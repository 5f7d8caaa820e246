//! Every scenario as a named test of `cargo test` and nextest, for a trainer written in Rust.

use std::path::{Path, PathBuf};
use std::slice;
use std::sync::Arc;
use std::time::Duration;

use anstream::adapter::strip_str;
use libtest_mimic::{Arguments, Completion, Failed, Trial};
use traintrue_judge::verdict::Verdict;
use traintrue_protocol::contract::Description;
use traintrue_protocol::serve::{argument, serve};
use traintrue_protocol::trainer::{Trainer, TrainerError, describe};

use crate::program::{Program, scratch};
use crate::report::text;
use crate::runner::{Happening, Observer, Runner};
use crate::scenario::{Catalogue, Corpus, Refused, Scenario};
use crate::suite::Suite;

/// The first argument of a test binary that is asked to be its trainer: each run is a process of its own.
const AS_TRAINER: &str = "--as-trainer";

/// How long one process may take.
const TIMEOUT: Duration = Duration::from_secs(600);

/// The main function of a test with `harness = false`: each scenario is a test by its own id, filtered as any other.
///
/// A scenario that is broken fails with its findings. One that is not judged is ignored, with the reason; nextest, which
/// asks beforehand, skips those that need what the trainer cannot do, and one that turns out later not to be judged fails
/// there, for it would pass otherwise. A trainer writes its trace to standard output, so it must print nothing there.
pub fn test_main<T: Trainer>(make: impl FnOnce() -> T) -> ! {
    test_main_with(make, &[])
}

/// [`test_main`] with your own scenarios beside those that come with this crate: every `.toml` of each folder is one.
/// Folders are relative to the package's, as everything is that a test opens.
pub fn test_main_with<T: Trainer>(make: impl FnOnce() -> T, folders: &[&str]) -> ! {
    if argument(1).as_deref() == Some(AS_TRAINER) {
        std::process::exit(serve(make(), argument(2).as_deref()).code().into());
    }
    match tests(&describe(&make()), folders, &Arguments::from_args()) {
        Ok(conclusion) => conclusion.exit(),
        Err(error) => {
            eprintln!("traintrue: {error}");
            std::process::exit(traintrue_protocol::exit::Exit::Request.code().into());
        }
    }
}

fn tests(
    description: &Description,
    folders: &[&str],
    arguments: &Arguments,
) -> Result<libtest_mimic::Conclusion, TrainerError> {
    if of_nextest() {
        // Under nextest each test is a process, and nextest runs them side by side.
        rayon::ThreadPoolBuilder::new().num_threads(1).build_global()?;
    }
    let folders: Vec<PathBuf> = folders.iter().map(std::path::absolute).collect::<Result<_, _>>()?;
    let catalogue = Catalogue::load(folders.iter().map(PathBuf::as_path))?;
    let scratch = scratch()?;
    let bench = Arc::new(Bench::open(description.clone(), folders, scratch.path())?);
    let trial = |scenario: &Scenario| {
        let (bench, scenario) = (Arc::clone(&bench), scenario.clone());
        let lacks = bench.lacks(&scenario);
        let trial = Trial::ignorable_test(scenario.id.clone(), move || bench.judge(&scenario));
        // `--list` shows these scenarios as ignored. Running them prints why they cannot be judged.
        trial.with_ignored_flag(arguments.list && lacks)
    };
    let refused = catalogue
        .refused(&[])
        .cloned()
        .map(|Refused { id, problem }| Trial::test(id, move || Err(problem.into())));
    let trials = catalogue.all().iter().map(trial).chain(refused).collect();
    Ok(libtest_mimic::run(arguments, trials))
}

/// What every test needs.
struct Bench {
    description: Description,
    program: Program,
    corpus: Corpus,
    scratch: PathBuf,
    /// What `--trainer` takes, to show a finding again.
    trainer: String,
    /// Those of the user's own scenarios.
    folders: Vec<PathBuf>,
}

impl Bench {
    fn open(description: Description, folders: Vec<PathBuf>, scratch: &Path) -> Result<Self, TrainerError> {
        let own = std::env::current_exe()?;
        let words = |verb: &str| vec![own.clone().into_os_string(), AS_TRAINER.into(), verb.into()];
        Ok(Self {
            description,
            program: Program::new(words("describe"), words("run")),
            corpus: Corpus::shipped()?,
            scratch: scratch.to_owned(),
            trainer: shlex::try_join([own.to_string_lossy().as_ref(), AS_TRAINER])?,
            folders,
        })
    }

    fn lacks(&self, scenario: &Scenario) -> bool {
        scenario.needs.iter().any(|need| !self.description.capabilities.contains(need))
    }

    /// The arguments of `traintrue run` that show a finding of this scenario again.
    fn arguments(&self, scenario: &Scenario) -> Vec<String> {
        let mut arguments = vec!["--trainer".to_owned(), self.trainer.clone()];
        // A scenario's file has its id for a name.
        let file = format!("{}.toml", scenario.id);
        if let Some(folder) = self.folders.iter().find(|folder| folder.join(&file).is_file()) {
            arguments.extend(["--scenarios".to_owned(), folder.display().to_string()]);
        }
        arguments
    }

    fn judge(&self, scenario: &Scenario) -> Result<Completion, Failed> {
        let suite = Suite {
            description: &self.description,
            corpus: &self.corpus,
            runner: Runner {
                program: &self.program,
                capabilities: &self.description.capabilities,
                timeout: TIMEOUT,
                observer: &Nobody,
            },
            scratch: &self.scratch,
            report: None,
            arguments: &self.arguments(scenario),
        };
        let report = suite.run(slice::from_ref(scenario))?;
        let verdict = report.outcomes.first().map(|outcome| (outcome.verdict, outcome.reason.clone()));
        match verdict {
            Some((Verdict::Held, _)) => Ok(Completion::Completed),
            Some((Verdict::NotJudged, reason)) if !of_nextest() || self.lacks(scenario) => {
                Ok(Completion::ignored_with(format!("not judged: {}", reason.unwrap_or_default())))
            }
            None => Err(report.errors.join("\n").into()),
            _ => Err(strip_str(&text::run(&report)).to_string().into()),
        }
    }
}

fn of_nextest() -> bool {
    std::env::var_os("NEXTEST").is_some_and(|it| it == "1")
}

struct Nobody;

impl Observer for Nobody {
    fn see(&self, _: Happening<'_>) {}
}
