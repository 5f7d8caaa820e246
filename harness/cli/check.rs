//! `traintrue check`: judges recorded traces by the scenario they name, or as a free pair, and files and logs of a run.

use std::path::PathBuf;

use clap::{Args, ValueEnum};
use traintrue::check::{Relation, check as judge};
use traintrue::config::{self, Config};
use traintrue::waivers::{self, Waiving};
use traintrue_judge::artefact::{self, Curve, Given, MICRO_BATCHES_MOST};
use traintrue_judge::verdict::{RunReport, Summary};
use traintrue_protocol::plan::{COUNT_MOST, ScheduleName};

use crate::Done;
use crate::keep;
use crate::logs::LayoutArgs;
use crate::output::Format;
use crate::run::show;

#[derive(Args, Debug)]
pub struct CheckArgs {
    /// Traces, those of one run being its segments; or what a run left: a Hugging Face checkpoint or trainer_state.json, a
    /// PEFT adapter, a safetensors file, an index of shards. No pickle is ever opened. Or its log: TensorBoard event files
    /// or their folder, Lightning's metrics.csv, the folder of an MLflow run, a *.wandb file, LLaMA-Factory's
    /// trainer_log.jsonl, any CSV; JSON lines with --columns; standard output with --pattern.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Hold traces, as one run, against this trace; hold a checkpoint against this earlier one of its run.
    #[arg(long, value_name = "PATH")]
    against: Option<PathBuf>,
    /// What traces must be to it.
    #[arg(long = "as", id = "as_what", value_enum, requires = "against")]
    as_what: Option<As>,
    #[command(flatten)]
    given: GivenArgs,
    #[command(flatten)]
    logs: LayoutArgs,
    /// A folder of your own scenarios, beside ours.
    #[arg(long, value_name = "DIR")]
    scenarios: Option<PathBuf>,
    /// What the repository says of its trainer; by default traintrue.toml, where it is there.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// Keep the report in every form in this folder; report.html shows curves, and where two runs part.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// The form of the report.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

/// What a run was told, which its log does not say.
#[derive(Args, Clone, Copy, Debug)]
#[command(next_help_heading = "What the run that left a trainer_state.json or another log was told")]
struct GivenArgs {
    /// Its highest learning rate; without it the rates of the log are not judged.
    #[arg(long, value_name = "RATE", requires = "schedule")]
    lr: Option<f64>,
    /// The form of its schedule after the warm-up.
    #[arg(long, value_enum, requires = "lr")]
    schedule: Option<Form>,
    /// Updates of its warm-up.
    #[arg(long, value_name = "N", default_value_t = 0)]
    warmup: u64,
    /// Updates of its schedule in all; max_steps where it is not given.
    #[arg(long, value_name = "N", requires = "lr", value_parser = clap::value_parser!(u64).range(1..=COUNT_MOST))]
    updates: Option<u64>,
    /// Micro-batches of an epoch, on one device.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=MICRO_BATCHES_MOST))]
    micro_batches: Option<u64>,
    /// Micro-batches of an update.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=COUNT_MOST))]
    accumulation: Option<u64>,
    /// Epochs that were asked for.
    #[arg(long, value_name = "N", value_parser = epochs)]
    epochs: Option<f64>,
}

/// The form of a schedule.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Form {
    /// The peak, for ever.
    Constant,
    /// A straight line to 0.
    Linear,
    /// Half a cosine to 0.
    Cosine,
}

/// What a run must be to another.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum As {
    /// Cut and resumed, where the other never stopped.
    Seam,
    /// The same plan again.
    Equal,
    /// The same work in other micro-batches.
    Partition,
}

/// A request that does not fit what is to be judged.
#[derive(Debug, thiserror::Error)]
enum CheckError {
    #[error("--against: a trace is held against another as something: --as seam, equal or partition")]
    AsWhat,
    #[error("--as is of traces, and {} is none: --against alone holds it against an earlier checkpoint", .0.display())]
    NoTrace(PathBuf),
    #[error("--against: {} is a trace and another path is none: one kind at a time", .0.display())]
    Both(PathBuf),
}

fn epochs(text: &str) -> Result<f64, String> {
    let epochs = text.parse().ok().filter(|epochs: &f64| epochs.is_finite() && *epochs > 0.0);
    epochs.ok_or_else(|| "expected a number above 0".to_owned())
}

pub fn check(args: &CheckArgs) -> Done {
    let layout = args.logs.layout();
    let (mut traces, mut left) = (Vec::new(), Vec::new());
    for path in &args.paths {
        let of_its_kind = if artefact::is_trace(path, &layout)? { &mut traces } else { &mut left };
        of_its_kind.push(path.clone());
    }
    match (traces.first(), left.first(), &args.against, args.as_what) {
        (Some(trace), Some(_), Some(_), _) => return Err(CheckError::Both(trace.clone()).into()),
        (Some(_), None, Some(_), None) => return Err(CheckError::AsWhat.into()),
        (None, Some(path), _, Some(_)) => return Err(CheckError::NoTrace(path.clone()).into()),
        _ => {}
    }
    let config = Config::find(args.config.as_deref())?.unwrap_or_default();
    let words: Vec<String> = std::env::args().skip(1).collect();
    let reports = [
        (!traces.is_empty()).then(|| of_traces(args, &config, &traces, &words)),
        (!left.is_empty()).then(|| of_artefacts(args, &left, &words)),
    ];
    let report = joined(reports.into_iter().flatten().collect::<Result<_, _>>()?);
    // A few traces do not show that nothing needs a waiver.
    let waiving = Waiving { config: &config, catalogue: None, today: waivers::today(), arguments: &words };
    let report = waiving.apply(report);
    show(&report, args.format)?;
    if let Some(folder) = &args.report {
        keep::every_form(&keep::folder(folder)?.path, &report)?;
    }
    Ok(report.exit())
}

type Judged = Result<RunReport, Box<dyn std::error::Error>>;

fn of_traces(args: &CheckArgs, config: &Config, traces: &[PathBuf], words: &[String]) -> Judged {
    let (catalogue, notes) = config::catalogue(args.scenarios.as_deref(), config)?;
    let relation = args.as_what.map(|relation| match relation {
        As::Seam => Relation::Seam,
        As::Equal => Relation::Equal,
        As::Partition => Relation::Partition,
    });
    let against = args.against.as_deref().zip(relation);
    let mut report = judge(traces, against, &catalogue, words)?;
    report.notes = notes;
    let of_it = |id: &str| report.outcomes.iter().any(|outcome| outcome.scenario == id);
    let refused = catalogue.refused(&[]).filter(|refused| of_it(&refused.id));
    report.errors = refused.map(|refused| refused.problem.clone()).collect();
    Ok(report)
}

fn of_artefacts(args: &CheckArgs, left: &[PathBuf], words: &[String]) -> Judged {
    let it = args.given;
    let schedule = it.schedule.map(|form| match form {
        Form::Constant => ScheduleName::Constant,
        Form::Linear => ScheduleName::Linear,
        Form::Cosine => ScheduleName::Cosine,
    });
    let curve = it.lr.zip(schedule);
    let given = Given {
        curve: curve.map(|(lr, schedule)| Curve { lr, schedule, warmup: it.warmup, updates: it.updates }),
        micro_batches: it.micro_batches,
        accumulation: it.accumulation,
        epochs: it.epochs,
    };
    Ok(artefact::check(
        left,
        args.against.as_deref(),
        &given,
        &args.logs.layout(),
        &traintrue::reproduce::command(words),
    )?)
}

/// One report of one or two: the traces' first.
fn joined(mut reports: Vec<RunReport>) -> RunReport {
    let last = reports.split_off(1);
    let mut report = reports.remove(0);
    report.outcomes.extend(last.into_iter().flat_map(|report| report.outcomes));
    report.summary = Summary::of(&report.outcomes);
    report
}
