//! `traintrue record`: runs a training script unchanged, records it, and judges the recording.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::Args;
use traintrue::check::check;
use traintrue::config::Config;
use traintrue::record::{Declared, Recording, Request, Schedule, record as run};
use traintrue::scenario::Catalogue;
use traintrue::waivers::{self, Waiving};
use traintrue_judge::verdict::RunReport;
use traintrue_logs::Layout;
use traintrue_memory::bytes::Bytes;
use traintrue_memory::gate::{Gate, Held, Judged};
use traintrue_memory::series;
use traintrue_memory::slope::SlopeVerdict;
use traintrue_protocol::exit::Exit;
use traintrue_protocol::plan::COUNT_MOST;

use crate::keep;
use crate::output::{self, Format};
use crate::run::show;

/// Growth that is noted.
const NOTED: &str = "64KiB/step";

/// Runs a PyTorch training script unchanged, records it, and judges the recording.
///
/// No line of the script changes. The script prints, reads its input, gets signals and exits as it does alone. The verdict
/// follows on standard output. The loop is held to what you declare here, to what its framework's settings say, and
/// otherwise to what most of it does.
///
/// Exit status: the script's own where it failed, 128 and the signal's number where a signal ended it. Otherwise 0 held; 1
/// broken; 2 the command cannot be started; 3 nothing was recorded or judged.
#[derive(Args, Debug)]
pub struct RecordArgs {
    /// Keep the traces in this new folder [default: traintrue-record/1, or the next number that is free].
    #[arg(long, visible_alias = "report", value_name = "DIR")]
    out: Option<PathBuf>,
    /// Micro-batches per optimizer step.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=COUNT_MOST))]
    accumulation: Option<u64>,
    /// The norm that gradients are clipped to.
    #[arg(long, value_name = "NORM", value_parser = above_zero)]
    clip: Option<f64>,
    /// Passes over the training samples.
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=COUNT_MOST))]
    epochs: Option<u64>,
    /// The learning-rate schedule: a form, as cosine(updates=600, warmup=100, minimum=0.1), or FILE.py:FUNCTION, which
    /// gives the rate of an update, counted from 0. The forms are constant, linear, polynomial, cosine, inverse_sqrt and
    /// wsd.
    #[arg(long, value_name = "SCHEDULE")]
    schedule: Option<Schedule>,
    /// Only parameters whose names match train: lora_*, or model.head.*; may be given several times.
    #[arg(long, value_name = "PATTERN")]
    trainable: Vec<String>,
    /// Weight decay of all that trains, but for --no-decay.
    #[arg(long, value_name = "DECAY", value_parser = above_zero)]
    decay: Option<f64>,
    /// Parameters whose names match do not decay: *.bias, or norm*; may be given several times.
    #[arg(long, value_name = "PATTERN", requires = "decay")]
    no_decay: Vec<String>,
    /// Updates between two digests of the parameters; more cost less time [default: 10].
    #[arg(long, value_name = "N", value_parser = clap::value_parser!(u64).range(1..=COUNT_MOST))]
    digest_every: Option<u64>,
    /// The form of the report.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The command and its arguments: python train.py, torchrun train.py.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// The exit status of the script, or of the verdict.
pub fn record(args: &RecordArgs) -> Result<u8, Box<dyn std::error::Error>> {
    // A file that cannot be read is found before hours of training, not after them.
    let config = Config::find(None)?.unwrap_or_default();
    let declared = Declared {
        accumulation: args.accumulation,
        clip: args.clip,
        epochs: args.epochs,
        schedule: args.schedule.clone(),
        trainable: args.trainable.clone(),
        decay: args.decay,
        no_decay: args.no_decay.clone(),
        digest_every: args.digest_every,
        cut: None,
    };
    let request = Request { command: args.command.clone(), out: args.out.clone(), declared, output: None };
    let recording = run(&request)?;
    let verdict = match recording.traces.is_empty() {
        true => Err(recording.nothing().into()),
        false => judged(&recording, &config, args.format),
    };
    let verdict = verdict.unwrap_or_else(|error| {
        eprintln!("traintrue: not judged: {error}");
        Exit::NotJudged
    });
    Ok(recording.failure().unwrap_or(verdict.code()))
}

fn judged(
    recording: &Recording,
    config: &Config,
    format: Format,
) -> Result<Exit, Box<dyn std::error::Error>> {
    let traces = recording.traces.iter().map(|path| path.display().to_string());
    let again: Vec<String> = std::iter::once("check".to_owned()).chain(traces).collect();
    let mut report = check(&recording.traces, None, &Catalogue::load(None)?, &again)?;
    if let Some(status) = recording.failure() {
        report
            .notes
            .push(format!("the command ended with exit status {status}: what it did until then is judged"));
    }
    report.notes.extend(recording.traces.iter().flat_map(|path| growth(path)));
    let waiving = Waiving { config, catalogue: None, today: waivers::today(), arguments: &again };
    let report: RunReport = waiving.apply(report);
    keep::every_form(&recording.folder, &report)?;
    output::write("\n")?;
    show(&report, format)?;
    Ok(report.exit())
}

/// Lanes of memory that grow by more than anyone would allow. A note and no verdict: what a loop may take is its user's
/// to say, by `gate`.
fn growth(trace: &Path) -> Vec<String> {
    let limit = Held { max_slope: NOTED.parse().ok(), ..Held::default() };
    let Ok(recording) = series::record(trace, &Layout::default(), None, &[]) else { return Vec::new() };
    let grows = |judged: &Judged| judged.verdict == SlopeVerdict::Exceeds;
    let gate = Gate::of(&[recording], limit);
    gate.series
        .iter()
        .filter(|judged| grows(judged))
        .map(|it| {
            let each = Bytes(it.slope_per_step as u64);
            format!("{} grows by {each} an update: traintrue gate {} --max-slope {NOTED}", it.lane, it.file)
        })
        .collect()
}

fn above_zero(text: &str) -> Result<f64, String> {
    let norm = text.parse().ok().filter(|norm: &f64| norm.is_finite() && *norm > 0.0);
    norm.ok_or_else(|| "expected a number above 0".to_owned())
}
