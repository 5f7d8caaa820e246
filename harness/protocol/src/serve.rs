//! A trainer as a program: `describe` or `run`, as every trainer is asked.

use std::fs::File;
use std::io::{self, Write};
use std::process::ExitCode;

use crate::exit::Exit;
use crate::plan::Plan;
use crate::trainer::{Trainer, TrainerError, describe, prepared, record_prepared};

/// The main function of a program that is this trainer, for `traintrue run --trainer PROGRAM`.
///
/// ```no_run
/// # struct Mine;
/// # impl traintrue_protocol::Trainer for Mine {
/// #     fn run(&mut self, _: &traintrue_protocol::Plan, _: &mut traintrue_protocol::Recorder)
/// #         -> Result<(), traintrue_protocol::TrainerError> { Ok(()) }
/// # }
/// let status: std::process::ExitCode = traintrue_protocol::trainer_main(|| Mine);
/// ```
pub fn trainer_main<T: Trainer>(make: impl FnOnce() -> T) -> ExitCode {
    serve(make(), argument(1).as_deref()).code().into()
}

/// The argument at this place, the first being 1.
#[doc(hidden)]
pub fn argument(at: usize) -> Option<String> {
    std::env::args_os().nth(at).map(|argument| argument.to_string_lossy().into_owned())
}

/// Does what `verb` asks for, and says on standard error why not.
pub fn serve(mut trainer: impl Trainer, verb: Option<&str>) -> Exit {
    let done = match verb {
        Some("describe") => answer(&trainer),
        Some("run") => Plan::read(None).map_err(Into::into).and_then(|plan| carry_out(&mut trainer, &plan)),
        other => {
            let found = other.unwrap_or("nothing");
            eprintln!("{}: found {found}, expected `describe` or `run`", trainer.name());
            return Exit::Request;
        }
    };
    match done {
        Ok(()) => Exit::Held,
        Err(error) => {
            eprintln!("{}: {error}", trainer.name());
            Exit::Broken
        }
    }
}

fn answer(trainer: &impl Trainer) -> Result<(), TrainerError> {
    Ok(writeln!(io::stdout(), "{}", serde_json::to_string(&describe(trainer))?)?)
}

/// Carries out one plan, and writes the trace where the plan says: into its `trace` file, or to standard output.
pub fn carry_out(trainer: &mut impl Trainer, plan: &Plan) -> Result<(), TrainerError> {
    // Before the file is made: a plan that is refused must not empty the trace of an earlier run.
    let prepared = prepared(trainer, plan)?;
    let Some(path) = &plan.trace else {
        return record_prepared(trainer, plan, prepared, io::stdout().lock());
    };
    let file =
        File::create(path).map_err(|error| format!("{}: cannot write the trace: {error}", path.display()))?;
    record_prepared(trainer, plan, prepared, file)
}
