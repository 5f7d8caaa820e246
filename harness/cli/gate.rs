//! `traintrue gate`: memory series against a limit on their slope.

use std::path::PathBuf;

use clap::{ArgGroup, Args, ValueEnum};
use traintrue_memory::bytes::{Bytes, BytesPerStep};
use traintrue_memory::gate::{Gate, Held, Limits};
use traintrue_memory::series::{Unit, record};

use crate::Done;
use crate::logs::LayoutArgs;
use crate::output::write;

#[derive(Args, Debug)]
#[command(group = ArgGroup::new("held").args(["max_slope", "limits", "exact"]).required(true).multiple(true))]
pub struct GateArgs {
    /// CSV files (step, then one or more lanes in bytes), traces, or logs with a column of memory: what check reads.
    #[arg(required = true, value_name = "SERIES")]
    series: Vec<PathBuf>,
    /// What every lane may grow by: a number with B, KiB, MiB, GiB or TiB, and /step.
    #[arg(long, value_name = "BYTES/step", conflicts_with = "limits")]
    max_slope: Option<BytesPerStep>,
    /// Limits by lane, scenario and device, and the baseline that was accepted.
    #[arg(long, value_name = "FILE")]
    limits: Option<PathBuf>,
    /// Hold exact lanes to the same bytes at the same phase of the last two epochs.
    #[arg(long)]
    exact: bool,
    /// The memory there is: shows in how many steps it is full.
    #[arg(long, value_name = "BYTES")]
    capacity: Option<Bytes>,
    /// Only these lanes.
    #[arg(long = "lane", value_name = "LANE")]
    lanes: Vec<String>,
    #[command(flatten)]
    logs: LayoutArgs,
    /// The unit of a log's memory: B, KiB, MiB, GiB, KB, MB or GB. Without it, bytes.
    #[arg(long, value_name = "UNIT")]
    unit: Option<Unit>,
    /// The form of the report.
    #[arg(long, value_enum, default_value_t = GateFormat::Text)]
    format: GateFormat,
}

/// The form of the gate's report.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum GateFormat {
    /// For people.
    Text,
    /// One document.
    Json,
    /// For a page of continuous integration.
    Markdown,
}

pub fn gate(args: &GateArgs) -> Done {
    let limits = args.limits.as_deref().map(Limits::load).transpose()?;
    let layout = args.logs.layout();
    let recordings: Result<Vec<_>, _> =
        args.series.iter().map(|path| record(path, &layout, args.unit, &args.lanes)).collect();
    let held = Held {
        max_slope: args.max_slope,
        limits: limits.as_ref(),
        exact: args.exact,
        capacity: args.capacity,
    };
    let gate = Gate::of(&recordings?, held);
    match args.format {
        GateFormat::Text => write(&gate.text())?,
        GateFormat::Json => write(&format!("{}\n", serde_json::to_string(&gate)?))?,
        GateFormat::Markdown => write(&gate.markdown())?,
    }
    Ok(gate.exit())
}
