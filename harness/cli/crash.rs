//! `traintrue crash`: a training script killed at each file operation of its saves, resumed, and compared with its own end.

use std::ffi::OsString;
use std::fs;
use std::io::{self, IsTerminal};
use std::path::{Path, PathBuf};

use clap::Args;
use indicatif::ProgressBar;
use traintrue::crash::{Request, crash as run};

use crate::Done;
use crate::output::{ListFormat, write};
use crate::resume;

/// Kills a training script at each file operation of its saves, resumes it, and compares the end with the fault-free end.
///
/// Both commands name the folder of the run as {out}; it is a fresh folder for every run. The script runs to its end
/// twice. In the second run, each operation on files below {out} is observed by ptrace: in all threads and child
/// processes, in any language. What SIGKILL of the whole process group would leave is resumed: before each operation;
/// for each write, also with half of its bytes written; after each rename and at the end of each save, also with
/// everything lost that was not synced.
///
/// Let the script be small and save two or three times: it is resumed once for each different state. It must be
/// deterministic: files that differ between two fault-free runs are not compared.
///
/// The verdict on a point: exact; lost work (the resume goes on from an older checkpoint although a newer one was
/// complete; the work since the last complete checkpoint does not count); refuses to start; silently different (exit
/// status 0, and files below {out} are not those of the fault-free end); leaves a damaged file (the same, but the
/// only differing files are still as the crash left them); nothing to resume yet (no save was complete, and the
/// resume also fails in an empty folder). Files that remain beyond those of the fault-free end are not judged.
///
/// Unsynced: names are kept in order, also those in folders that were not synced; data is kept up to the last fsync
/// of its file. A file that was not synced since it was made is empty. What earlier saves wrote has reached the disk.
///
/// Not covered: what the script keeps outside of {out}, the death of one process while others go on, writes through
/// io_uring.
///
/// Exit status: 0 all points are exact; 1 a point has one of the verdicts between exact and nothing to resume yet; 2
/// a command cannot be run, or does not resume at all; 3 nothing could be compared, or the script saves only once.
///
///     traintrue crash --resume 'python train.py --out {out} --resume' -- python train.py --out {out}
#[derive(Args, Debug)]
#[command(verbatim_doc_comment)]
pub struct CrashArgs {
    /// The command that resumes from what is in {out}.
    #[arg(long, value_name = "COMMAND")]
    resume: String,
    /// Try about N kills and torn writes, evenly; renames, links and the first and last write of each file always.
    #[arg(long, value_name = "N")]
    sample: Option<usize>,
    /// Run in this empty folder and leave `crash.json` there. By default a temporary folder, of which nothing remains.
    #[arg(long, value_name = "DIR")]
    out_dir: Option<PathBuf>,
    /// Write a script that shows the worst finding without traintrue, and the text of an issue.
    #[arg(long, value_name = "DIR")]
    repro: Option<PathBuf>,
    /// The form of the report.
    #[arg(long, value_enum, default_value_t = ListFormat::Text)]
    format: ListFormat,
    /// The training script and its arguments.
    #[arg(last = true, required = true, value_name = "COMMAND")]
    command: Vec<OsString>,
}

pub fn crash(args: &CrashArgs) -> Done {
    let resume = resume::words(&args.resume)?;
    let work = match &args.out_dir {
        Some(folder) => {
            empty(folder)?;
            tempfile::tempdir_in(folder)?
        }
        None => tempfile::tempdir()?,
    };
    let request = Request {
        command: args.command.clone(),
        resume,
        sample: args.sample,
        work: work.path().to_owned(),
        repro: args.repro.clone(),
    };
    let bar = if io::stderr().is_terminal() { ProgressBar::no_length() } else { ProgressBar::hidden() };
    let report = run(&request, &mut |done, all| {
        bar.set_length(all as u64);
        bar.set_position(done as u64);
    });
    bar.finish_and_clear();
    let report = report?;
    let document = serde_json::to_string(&report)? + "\n";
    if let Some(folder) = &args.out_dir {
        fs::write(folder.join("crash.json"), &document)?;
    }
    match args.format {
        ListFormat::Text => write(&report.text())?,
        ListFormat::Json => write(&document)?,
    }
    Ok(report.exit())
}

/// Makes the folder. One that holds something is refused: nothing of anyone's is overwritten.
fn empty(folder: &Path) -> Result<(), String> {
    let failed = |error: io::Error| format!("{}: {error}", folder.display());
    fs::create_dir_all(folder).map_err(failed)?;
    match fs::read_dir(folder).map_err(failed)?.next() {
        Some(_) => Err(format!(
            "{}: found files, expected an empty folder: name another --out-dir",
            folder.display()
        )),
        None => Ok(()),
    }
}
