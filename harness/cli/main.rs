//! The traintrue command line: arguments in, library calls out. One file a verb.

#![forbid(unsafe_code)]

mod accept;
mod bench;
mod catalogue;
mod check;
#[cfg_attr(
    not(all(target_os = "linux", any(target_arch = "x86_64", target_arch = "aarch64"))),
    path = "crash_elsewhere.rs"
)]
mod crash;
mod cut;
mod describe;
mod estimate;
mod explain;
mod faults;
mod gate;
mod init;
mod keep;
mod list;
#[cfg(target_os = "linux")]
mod live;
mod logs;
mod merge;
mod output;
mod progress;
mod record;
mod resume;
mod run;
mod train;
#[cfg_attr(not(target_os = "linux"), path = "watch_elsewhere.rs")]
mod watch;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use traintrue_protocol::exit::Exit;

// The reference trainer's traces show what is on the heap.
traintrue_protocol::count_heap!();

/// What a verb comes to; an error is a wrong input or request, which is exit status 2.
type Done = Result<Exit, Box<dyn std::error::Error>>;

/// Holds a training loop to what training means.
///
/// Exit status: 0 held; 1 broken; 2 the input or the request is wrong, or a trainer cannot be started; 3 nothing broken, but
/// something could not be judged; 4 the unfaulted baseline is broken, so no fault was tried.
#[derive(Parser)]
#[command(name = "traintrue", version, args_conflicts_with_subcommands = true)]
struct Cli {
    #[command(subcommand)]
    verb: Option<Verb>,
    #[command(flatten)]
    run: run::RunArgs,
}

#[derive(Subcommand)]
enum Verb {
    /// Runs scenarios and judges them; this is what happens without a verb, too.
    Run(run::RunArgs),
    /// Judges the reference trainer first, then plants every fault in it.
    Faults(faults::FaultsArgs),
    Merge(merge::MergeArgs),
    /// Judges recorded traces.
    Check(check::CheckArgs),
    Record(record::RecordArgs),
    Cut(cut::CutArgs),
    Crash(crash::CrashArgs),
    Watch(watch::WatchArgs),
    /// Holds memory series to a limit on their slope.
    Gate(gate::GateArgs),
    /// Runs the reference trainer: a plan in, a trace out.
    Train(train::TrainArgs),
    /// Says what the reference trainer is and can do.
    Describe(describe::DescribeArgs),
    /// Lists scenarios, faults, invariants, components, capabilities and bug classes.
    List(list::ListArgs),
    /// Explains one scenario, fault, invariant, component or capability in full.
    Explain(explain::ExplainArgs),
    /// Estimates what training a model will need, part by part, against what it may use.
    Estimate(estimate::EstimateArgs),
    Init(init::InitArgs),
    /// Rewrites the golden files that you name (schemas, matrix, memory), or all, after you have looked at them.
    Accept(accept::AcceptArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let code = match cli.verb.unwrap_or(Verb::Run(cli.run)) {
        // The exit status is that of the recorded script, which may be any.
        Verb::Record(args) => record::record(&args),
        Verb::Run(args) => run::run(&args).map(Exit::code),
        Verb::Faults(args) => faults::faults(&args).map(Exit::code),
        Verb::Merge(args) => merge::merge(&args).map(Exit::code),
        Verb::Check(args) => check::check(&args).map(Exit::code),
        Verb::Crash(args) => crash::crash(&args).map(Exit::code),
        Verb::Cut(args) => cut::cut(&args).map(Exit::code),
        Verb::Watch(args) => watch::watch(&args).map(Exit::code),
        Verb::Gate(args) => gate::gate(&args).map(Exit::code),
        Verb::Train(args) => train::train(&args).map(Exit::code),
        Verb::Describe(args) => describe::describe(&args).map(Exit::code),
        Verb::List(args) => list::list(&args).map(Exit::code),
        Verb::Explain(args) => explain::explain(&args).map(Exit::code),
        Verb::Estimate(args) => estimate::estimate(&args).map(Exit::code),
        Verb::Init(args) => init::init(&args).map(Exit::code),
        Verb::Accept(args) => accept::accept(&args).map(Exit::code),
    };
    ExitCode::from(code.unwrap_or_else(|error| {
        eprintln!("traintrue: {error}");
        Exit::Request.code()
    }))
}
