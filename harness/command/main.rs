//! The traintrue command line: arguments in, library calls out. One file a verb.

mod accept;
mod bench;
mod check;
mod describe;
mod explain;
mod faults;
mod list;
mod memory;
mod output;
mod progress;
mod run;
mod train;

use std::process::ExitCode;

use clap::{Parser, Subcommand};
use traintrue::exit::Exit;

/// Counts what this process has on its heap: the reference trainer's traces show it.
#[global_allocator]
static HEAP: peak_alloc::PeakAlloc = peak_alloc::PeakAlloc;

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
    /// Judges recorded traces.
    Check(check::CheckArgs),
    /// Runs the reference trainer: a plan in, a trace out.
    Train(train::TrainArgs),
    /// Says what the reference trainer is and can do.
    Describe,
    /// Lists scenarios, faults, invariants and bug classes.
    List(list::ListArgs),
    /// Explains one scenario, fault or invariant in full.
    Explain(explain::ExplainArgs),
    /// Rewrites the golden kill matrix, after you have looked at it.
    Accept(accept::AcceptArgs),
}

fn main() -> ExitCode {
    let cli = Cli::parse();
    let done = match cli.verb.unwrap_or(Verb::Run(cli.run)) {
        Verb::Run(args) => run::run(&args),
        Verb::Faults(args) => faults::faults(&args),
        Verb::Check(args) => check::check(&args),
        Verb::Train(args) => train::train(&args),
        Verb::Describe => describe::describe(),
        Verb::List(args) => list::list(&args),
        Verb::Explain(args) => explain::explain(&args),
        Verb::Accept(args) => accept::accept(&args),
    };
    let exit = done.unwrap_or_else(|error| {
        eprintln!("traintrue: {error}");
        Exit::Request
    });
    ExitCode::from(exit.code())
}
