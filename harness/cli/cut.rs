//! `traintrue cut`: ends a training script at several places, resumes it, and judges it against the same script left alone.

use std::ffi::OsString;
use std::path::{Path, PathBuf};

use clap::{Args, ValueEnum};
use traintrue::cut::{Request, cut as run};
use traintrue::record::How;
use traintrue_judge::tally::Labels;
use traintrue_judge::verdict::RunReport;
use traintrue_protocol::contract::Contract;

use crate::Done;
use crate::keep;
use crate::output::Format;
use crate::resume;
use crate::run::show;

/// Ends a training script at several places, resumes it, and judges it against the same script left alone.
///
/// Both commands name the folder of the run as {out}; each run gets a fresh one. The script is recorded once whole.
/// Then it is made again for each place, ended exactly after that micro-batch, and resumed by your command. By
/// default the places are: inside an accumulation window, at a window's edge, at an epoch's edge, and in a later
/// epoch.
///
/// A script saves when it saves: the resumed run is compared from the update whose parameters it starts with. Work
/// that is done again is reported; it is a finding only if a newer complete checkpoint was there.
///
///     traintrue cut --resume 'python train.py --out {out} --resume' -- python train.py --out {out}
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct CutArgs {
    /// The command that resumes from what is in {out}.
    #[arg(long, value_name = "COMMAND")]
    resume: String,
    /// The places: micro-batches from the start of the run, separated by commas.
    #[arg(long, value_name = "N,…", value_delimiter = ',')]
    at: Vec<u64>,
    /// How the script is ended. After SIGTERM it has as long as it needs.
    #[arg(long, value_enum, default_value_t = End::Exit)]
    how: End,
    /// Keep checkpoints, traces, output and report.html in this new folder; by default nothing remains.
    #[arg(long, visible_alias = "report", value_name = "DIR")]
    keep: Option<PathBuf>,
    /// The form of the report.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
    /// The training script and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

/// How a script is ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum End {
    /// By `SystemExit`: `finally` blocks and exit handlers run.
    Exit,
    /// By a signal that the script may handle.
    #[value(name = "SIGTERM")]
    Sigterm,
    /// By a signal that it cannot handle.
    #[value(name = "SIGKILL")]
    Sigkill,
}

pub fn cut(args: &CutArgs) -> Done {
    let resume = resume::words(&args.resume)?;
    let temporary = tempfile::tempdir()?;
    let work = match &args.keep {
        Some(folder) => {
            std::fs::create_dir(folder).map_err(|error| format!("--keep: {}: {error}", folder.display()))?;
            std::fs::canonicalize(folder)?
        }
        None => temporary.path().to_owned(),
    };
    let request = Request {
        command: args.command.clone(),
        resume,
        at: args.at.clone(),
        how: match args.how {
            End::Exit => How::Exit,
            End::Sigterm => How::Sigterm,
            End::Sigkill => How::Sigkill,
        },
        work: work.clone(),
    };
    let words: Vec<String> = std::env::args().skip(1).collect();
    let command = traintrue::reproduce::command(&words);
    let named = |path: &Path| path.strip_prefix(&work).unwrap_or(path).display().to_string();
    let labels = Labels { reproduce: &command, trace: &named };
    let outcome = run(&request, labels, &mut |what| eprintln!("traintrue: {what}"))?;
    let outcomes = vec![outcome];
    let report = RunReport::new(String::new(), Contract::default(), outcomes);
    if args.keep.is_some() {
        keep::every_form(&work, &report)?;
    }
    show(&report, args.format)?;
    Ok(report.exit())
}
