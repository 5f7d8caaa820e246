//! The trainer's side in Rust: one required method.
//!
//! A trainer is handed a plan and a recorder, trains as the plan says, and writes what it does:
//!
//! ```
//! use traintrue_protocol::{Plan, Recorder, Trainer, TrainerError};
//! use traintrue_protocol::trace::event::Epoch;
//!
//! #[derive(Default)]
//! struct MyTrainer;
//!
//! impl Trainer for MyTrainer {
//!     fn run(&mut self, plan: &Plan, recorder: &mut Recorder) -> Result<(), TrainerError> {
//!         for epoch in 0..plan.data.epochs {
//!             recorder.write(|| Epoch::begin(epoch))?;
//!             // … each micro-batch and each update of the epoch, when it is done …
//!             recorder.write(|| Epoch::end(epoch))?;
//!         }
//!         Ok(())
//!     }
//! }
//! ```
//!
//! In a test with `harness = false`, `traintrue::test_main(MyTrainer::default)` makes each scenario a test of its own.
//!
//! `harness/suite/examples/linear_regression.rs` is a whole one, and `resumable.rs` one that can be stopped anywhere.

use std::io::{self, Write};

use crate::contract::{Contract, Description};
use crate::plan::{Plan, SCHEMA};
use crate::recorder::Recorder;
use crate::trace::event::{End, EndReason, Run};
use crate::vocabulary::Capability;

/// Whatever stops a trainer.
pub type TrainerError = Box<dyn std::error::Error + Send + Sync>;

/// A trainer cannot carry out this plan, and says why: its model has no adapters, its loop has no such schedule. The run is
/// then not judged, with this reason. As the error of [`Trainer::prepare`], or of [`Trainer::run`] before the first
/// micro-batch.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{0}")]
pub struct Declined(pub String);

/// A training loop that can be held to the scenarios.
///
/// A trainer on burn 0.21 that runs in the caller's process must train there one at a time: a backward pass on one thread
/// can lose the gradients of another thread, without an error (burn#5573).
pub trait Trainer {
    /// Trains as `plan` says, in a process of its own, and writes every event in between the first and the last line.
    fn run(&mut self, plan: &Plan, recorder: &mut Recorder) -> Result<(), TrainerError>;

    /// Looks at `plan` before its trace begins. A trainer refuses here what it cannot carry out, or settles what the first
    /// line says: after this, [`Self::device`] and [`Self::contract`] are those of `plan`. An error leaves no trace, except
    /// [`Declined`].
    fn prepare(&mut self, _plan: &Plan) -> Result<(), TrainerError> {
        Ok(())
    }

    /// Name and version.
    fn name(&self) -> String {
        std::any::type_name::<Self>().to_owned()
    }

    /// Where it computes.
    fn device(&self) -> String {
        "cpu".to_owned()
    }

    /// What it can do. A scenario that needs more is not judged, and says so. The first to have is
    /// [`Capability::Resume`].
    fn capabilities(&self) -> &[Capability] {
        &[]
    }

    /// Its conventions. One that has the capability `contract` follows `plan.contract.over(self.contract())`.
    fn contract(&self) -> Contract {
        Contract::default()
    }
}

/// What a trainer answers to `describe`.
pub fn describe(trainer: &impl Trainer) -> Description {
    Description {
        schema: SCHEMA,
        trainer: trainer.name(),
        capabilities: trainer.capabilities().to_vec(),
        contract: trainer.contract(),
        serve: false,
    }
}

/// Runs a plan and writes its trace, first and last line included. Fails as the trainer or the writer does.
pub fn record(trainer: &mut impl Trainer, plan: &Plan, to: impl Write) -> Result<(), TrainerError> {
    let prepared = prepared(trainer, plan)?;
    record_prepared(trainer, plan, prepared, to)
}

/// What came of a trainer's look at a plan.
pub(crate) type Prepared = Result<(), Declined>;

/// Lets a trainer look at the plan. Fails as the trainer does, unless it declines the plan.
pub(crate) fn prepared(trainer: &mut impl Trainer, plan: &Plan) -> Result<Prepared, TrainerError> {
    match trainer.prepare(plan) {
        Ok(()) => Ok(Ok(())),
        Err(error) => Ok(Err(*error.downcast::<Declined>()?)),
    }
}

/// The same for a trainer that has already looked at the plan.
pub(crate) fn record_prepared(
    trainer: &mut impl Trainer,
    plan: &Plan,
    prepared: Prepared,
    to: impl Write,
) -> Result<(), TrainerError> {
    let own = trainer.contract();
    let contract =
        if trainer.capabilities().contains(&Capability::Contract) { plan.contract.over(own) } else { own };
    let unwritten = |error: io::Error| format!("cannot write the trace: {error}");
    let mut recorder = Recorder::new(to, plan);
    let run = || Run {
        schema: SCHEMA,
        trainer: trainer.name(),
        device: trainer.device(),
        scenario: plan.scenario.clone(),
        run: plan.run.clone(),
        plan: plan.clone(),
        recorded: None,
        contract,
    };
    recorder.write(run).map_err(unwritten)?;
    let ran = match prepared {
        Ok(()) => trainer.run(plan, &mut recorder),
        Err(declined) => Err(declined.into()),
    };
    if recorder.ended() {
        return ran;
    }
    let (reason, message) = match &ran {
        Err(error) if error.is::<Declined>() => (EndReason::Declined, Some(error.to_string())),
        Err(error) => (EndReason::Error, Some(error.to_string())),
        Ok(()) if plan.stop.is_some() => (EndReason::Stopped, None),
        Ok(()) => (EndReason::Done, None),
    };
    let ended = recorder.write(|| End::new(reason, message));
    // What stopped the trainer comes before what became of its last line. A plan that was declined was answered.
    match ran {
        Err(error) if !error.is::<Declined>() => return Err(error),
        _ => {}
    }
    Ok(ended.map_err(unwritten)?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Asked, Tail};
    use crate::plan::{Stop, example};
    use crate::trace::event::Epoch;
    use crate::trace::event::MicroBatch;
    use rstest::rstest;

    struct Scripted {
        capabilities: &'static [Capability],
        fails: bool,
    }

    struct Refusing;

    impl Trainer for Refusing {
        fn prepare(&mut self, _: &Plan) -> Result<(), TrainerError> {
            Err("no such model".into())
        }

        fn run(&mut self, _: &Plan, _: &mut Recorder) -> Result<(), TrainerError> {
            panic!("run after a refusal")
        }
    }

    struct Declining {
        early: bool,
    }

    impl Trainer for Declining {
        fn prepare(&mut self, _: &Plan) -> Result<(), TrainerError> {
            if self.early { Err(Declined("no adapters".to_owned()).into()) } else { Ok(()) }
        }

        fn run(&mut self, _: &Plan, _: &mut Recorder) -> Result<(), TrainerError> {
            assert!(!self.early, "run after the plan was declined");
            Err(Declined("no adapters".to_owned()).into())
        }
    }

    impl Trainer for Scripted {
        fn run(&mut self, _: &Plan, recorder: &mut Recorder) -> Result<(), TrainerError> {
            recorder.write(|| Epoch::begin(0))?;
            recorder.write(MicroBatch::default)?;
            if self.fails { Err("out of luck".into()) } else { Ok(()) }
        }

        fn capabilities(&self) -> &[Capability] {
            self.capabilities
        }
    }

    fn lines(trainer: &mut Scripted, plan: &Plan) -> (Result<(), TrainerError>, Vec<serde_json::Value>) {
        let mut trace = Vec::new();
        let ran = record(trainer, plan, &mut trace);
        let text = String::from_utf8(trace).unwrap();
        (ran, text.lines().map(|line| serde_json::from_str(line).unwrap()).collect())
    }

    #[rstest]
    #[case::to_the_end(false, None, "done")]
    #[case::to_a_stop(false, Some(Stop { epoch: 0, micro_batches: 1, save: None }), "stopped")]
    #[case::to_an_error(true, None, "error")]
    fn the_first_and_the_last_line_are_written_for_the_trainer(
        #[case] fails: bool,
        #[case] stop: Option<Stop>,
        #[case] reason: &str,
    ) {
        let plan = Plan { stop, ..example() };
        let (ran, lines) = lines(&mut Scripted { capabilities: &[], fails }, &plan);
        assert_eq!(ran.is_err(), fails);
        let names: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
        assert_eq!(names, ["run", "epoch", "micro_batch", "end"]);
        assert_eq!(lines[3]["reason"], reason);
        assert_eq!(lines[3]["message"].as_str(), fails.then_some("out of luck"));
    }

    #[test]
    fn a_plan_that_is_refused_leaves_no_line() {
        let mut trace = Vec::new();
        let error = record(&mut Refusing, &example(), &mut trace).unwrap_err();
        assert_eq!((error.to_string(), trace.len()), ("no such model".to_owned(), 0));
    }

    #[rstest]
    #[case::before_it_runs(true)]
    #[case::when_it_runs(false)]
    fn a_plan_that_is_declined_is_answered_with_the_reason(#[case] early: bool) {
        let mut trace = Vec::new();
        record(&mut Declining { early }, &example(), &mut trace).unwrap();
        let text = String::from_utf8(trace).unwrap();
        let lines: Vec<serde_json::Value> =
            text.lines().map(|line| serde_json::from_str(line).unwrap()).collect();
        let names: Vec<&str> = lines.iter().map(|line| line["event"].as_str().unwrap()).collect();
        assert_eq!(names, ["run", "end"]);
        assert_eq!((&lines[1]["reason"], &lines[1]["message"]), (&"declined".into(), &"no adapters".into()));
    }

    #[rstest]
    #[case::that_can(&[Capability::Contract], "carry")]
    #[case::that_cannot(&[], "flush")]
    fn the_run_line_has_the_contract_that_is_followed_by_a_trainer(
        #[case] capabilities: &'static [Capability],
        #[case] tail: &str,
    ) {
        let contract = Asked { tail: Some(Tail::Carry), ..Asked::default() };
        let plan = Plan { contract, ..example() };
        let (_, lines) = lines(&mut Scripted { capabilities, fails: false }, &plan);
        assert_eq!(lines[0]["contract"]["tail"], tail);
    }
}
