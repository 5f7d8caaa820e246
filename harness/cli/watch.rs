//! `traintrue watch`: runs any command, samples its memory, ends it before it takes the machine down, judges its slope.

use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

use clap::Args;
use traintrue_memory::bytes::{Bytes, Rate};
use traintrue_memory::watch::{Request, StepPattern, Steps, WatchReport, watch as run};

use crate::Done;
use crate::live::Live;
use crate::output::{ListFormat, write};

/// Runs any command and watches the memory of its process tree.
///
/// The command's standard output is its own, byte for byte: what is said of it goes to standard error. Only with
/// `--format json` the command's standard output goes to standard error, and the document alone to standard output;
/// `--report DIR` leaves the document and the samples as files, and both streams alone.
///
/// The command gets a process group of its own. SIGINT, SIGTERM, SIGHUP, SIGQUIT, SIGUSR1, SIGUSR2 and SIGTSTP are passed on
/// to that group. It cannot read from the terminal: where standard input is one, the command's is empty. With `--step` its
/// output is a pipe; a program that holds back what it writes to a pipe (python without -u) tells its steps late.
/// When the command ends by itself, processes that it left behind live on, and are named.
///
/// Exit status: 0 within the limits; 1 a limit was crossed, or the command failed; 2 it cannot be started; 3 not judged, or
/// there was no limit to judge by.
#[derive(Args, Debug)]
pub struct WatchArgs {
    /// Find steps in the command's output: an expression whose first group is the step's number, such as 'step (\d+)'.
    #[arg(long, value_name = "REGEX", conflicts_with = "trace")]
    step: Option<StepPattern>,
    /// Find steps in the update events of the trace that the command writes.
    #[arg(long, value_name = "FILE")]
    trace: Option<PathBuf>,
    /// How fast memory may grow: 64KiB/step; where no steps can be seen, 64KiB/s.
    #[arg(long, value_name = "RATE")]
    max_slope: Option<Rate>,
    /// End the command and its child processes when their resident memory reaches this (20GiB), shared pages counted once;
    /// or when less than a 64th of the machine's memory is left. SIGTERM, then SIGKILL.
    #[arg(long, value_name = "BYTES")]
    max_memory: Option<Bytes>,
    /// How long the command may take to end after SIGTERM. It is killed sooner where it goes on growing.
    #[arg(long, value_name = "TIME", default_value = "10s")]
    grace: humantime::Duration,
    /// The time between two samples, at least 1ms.
    #[arg(long, value_name = "TIME", default_value = "100ms", value_parser = interval)]
    every: Duration,
    /// Leave `watch.json` and `memory.csv` in this folder; `traintrue gate` reads the latter where steps were seen.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// The form of the report.
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    format: ListFormat,
    /// The command and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub fn watch(args: &WatchArgs) -> Done {
    let in_report = |name| args.report.as_ref().map(|folder| folder.join(name));
    if let Some(folder) = &args.report {
        std::fs::create_dir_all(folder).map_err(|error| format!("{}: {error}", folder.display()))?;
    }
    let request = Request {
        command: args.command.clone(),
        every: args.every,
        steps: match (&args.step, &args.trace) {
            (Some(pattern), _) => Steps::Output(pattern.clone()),
            (None, Some(trace)) => Steps::Trace(trace.clone()),
            (None, None) => Steps::Unseen,
        },
        max_memory: args.max_memory,
        grace: args.grace.into(),
        output_to_stderr: args.format == ListFormat::Json,
        samples: in_report("memory.csv"),
    };
    let watched = run(&request, &mut Live::new(args.max_memory))?;
    let file =
        request.samples.as_deref().map_or(args.command[0].to_string_lossy(), |it| it.to_string_lossy());
    let report = WatchReport::of(&watched, args.max_slope, args.max_memory, &file);
    let document = serde_json::to_string(&report)? + "\n";
    if let Some(path) = in_report("watch.json") {
        std::fs::write(&path, &document).map_err(|error| format!("{}: {error}", path.display()))?;
    }
    match args.format {
        ListFormat::Text => report.text().lines().for_each(|line| eprintln!("traintrue: {line}")),
        ListFormat::Json => write(&document)?,
    }
    Ok(report.exit())
}

fn interval(text: &str) -> Result<Duration, String> {
    let time = humantime::parse_duration(text).map_err(|error| error.to_string())?;
    if time < Duration::from_millis(1) { Err("expected at least 1ms".into()) } else { Ok(time) }
}
