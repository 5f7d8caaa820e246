//! `traintrue merge`: the parts of one run, which several machines made, and one verdict over all of them.

use std::path::PathBuf;

use clap::Args;
use serde::de::DeserializeOwned;
use traintrue::kill_matrix::compare;
use traintrue::merge::{self, MergeError, Read};
use traintrue::report::{json, junit, text};
use traintrue_protocol::exit::Exit;

use crate::Done;
use crate::faults::GOLDEN;
use crate::keep;
use crate::output::{self, Format};
use crate::run::show;

/// The documents of the two verbs that have parts.
const RUN: &str = "report.json";
const FAULTS: &str = "faults.json";

/// Puts the reports of all parts of one `run`, or of one `faults`, together.
///
/// The parts are made by `--partition slice:1/N --report DIR` and so on. Exit status: that of the whole.
#[derive(Args, Debug)]
pub struct MergeArgs {
    /// The folders of the parts' reports.
    #[arg(value_name = "DIR", required = true)]
    folders: Vec<PathBuf>,
    /// Keep the whole report in this folder.
    #[arg(long, value_name = "DIR")]
    report: Option<PathBuf>,
    /// The kill matrix to compare with, of faults; one that is not there is not compared.
    #[arg(long, value_name = "FILE", default_value = GOLDEN)]
    golden: PathBuf,
    /// The form of the report.
    #[arg(long, value_enum, default_value_t = Format::Text)]
    format: Format,
}

impl MergeArgs {
    /// The document of this name of every part.
    fn read<T: DeserializeOwned>(&self, name: &str) -> Result<Vec<Read<T>>, MergeError> {
        self.folders.iter().map(|folder| merge::read(&folder.join(name))).collect()
    }
}

pub fn merge(args: &MergeArgs) -> Done {
    let of_faults = args.folders.iter().all(|folder| folder.join(FAULTS).exists());
    if of_faults { faults(args) } else { runs(args) }
}

fn runs(args: &MergeArgs) -> Done {
    let report = merge::runs(args.read(RUN)?)?;
    if let Some(folder) = &args.report {
        let folder = keep::folder(folder)?;
        keep::every_form(&folder.path, &report)?;
    }
    show(&report, args.format)?;
    Ok(report.exit())
}

fn faults(args: &MergeArgs) -> Done {
    let report = merge::faults(args.read(FAULTS)?)?;
    if let Some(folder) = &args.report {
        let folder = keep::folder(folder)?;
        keep::file(&folder.path, FAULTS, json::document(&report)?)?;
        keep::file(&folder.path, "junit.xml", junit::faults(&report)?)?;
    }
    // The parts may be of some scenarios: rows that are only in the golden matrix say nothing.
    let differences =
        if args.golden.exists() { compare(&args.golden, &report.faults, false)? } else { Vec::new() };
    output::write(&match args.format {
        Format::Text => text::faults(&report, &differences),
        Format::Junit => junit::faults(&report)?,
        Format::Json | Format::Sarif => json::document(&report)?,
    })?;
    let golden = if differences.is_empty() { Exit::Held } else { Exit::Broken };
    Ok(report.exit().worst(golden))
}
