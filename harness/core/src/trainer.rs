//! The trainer's side in Rust: one required method.
//!
//! A trainer is handed a plan and a recorder, trains as the plan says, and writes what it does. Here is one that learns the
//! mean token of its samples by a plain step, and can nothing else; a real one, with resume, is in
//! `harness/core/examples/linear_regression.rs`.
//!
//! ```
//! use traintrue::{Plan, Recorder, Trainer, TrainerError};
//! use traintrue::trace::event::{Edge, Epoch, Loss, MicroBatch, Update};
//!
//! struct Mean(f32);
//!
//! impl Trainer for Mean {
//!     fn run(&mut self, plan: &Plan, recorder: &mut Recorder) -> Result<(), TrainerError> {
//!         let window = plan.train.accumulation as usize;
//!         let mut step = 0;
//!         for epoch in 0..plan.data.epochs {
//!             recorder.write(|| Epoch { epoch, edge: Edge::Begin })?;
//!             let batches: Vec<&[Vec<u32>]> = plan.data.samples.chunks(plan.data.batch as usize).collect();
//!             for (at, batches) in batches.chunks(window).enumerate() {
//!                 let (mut gradient, mut tokens) = (0.0, 0);
//!                 for (number, batch) in batches.iter().enumerate() {
//!                     let index = (at * window + number) as u64;
//!                     let errors: Vec<f32> = batch.iter().flatten().map(|&id| self.0 - id as f32).collect();
//!                     recorder.write(|| MicroBatch {
//!                         epoch,
//!                         index,
//!                         losses: vec![Loss {
//!                             name: "squares".into(),
//!                             sum: errors.iter().map(|e| f64::from(e * e)).sum::<f64>().into(),
//!                             weight: (batch.len() as f64).into(),
//!                         }],
//!                         ..Default::default()
//!                     })?;
//!                     gradient += errors.iter().sum::<f32>();
//!                     tokens += errors.len();
//!                 }
//!                 let lr = plan.train.optimizer.lr;
//!                 self.0 -= lr as f32 * gradient / tokens as f32;
//!                 step += 1;
//!                 recorder.write(|| Update { step, lr: vec![lr.into()], ..Default::default() })?;
//!             }
//!             recorder.write(|| Epoch { epoch, edge: Edge::End })?;
//!         }
//!         Ok(())
//!     }
//! }
//!
//! # let plan = Plan::parse(r#"{"schema":1,"scenario":"mine","run":"once","seed":7,
//! #     "data":{"samples":[[1,10,2],[1,11,2],[1,13,2]],"tokens":{"pad":3,"bos":1,"eos":2,"vocabulary":32},
//! #         "batch":1,"epochs":1,"shuffle":false,"max_length":16,"drop_last":false,
//! #         "padding":{"policy":"longest","side":"right","multiple_of":1}},
//! #     "train":{"accumulation":2,"optimizer":{"name":"adamw","lr":1e-3,"betas":[0.9,0.999],"eps":1e-8,"decay":0},
//! #         "schedule":{"name":"constant","warmup":0}},"model":{"size":"tiny"}}"#)?;
//! let mut trace = Vec::new();
//! traintrue::trainer::record(&mut Mean(0.0), &plan, &mut trace)?;
//! // run, epoch, two micro-batches, update, one micro-batch, update, epoch, end
//! assert_eq!(String::from_utf8(trace)?.lines().count(), 9);
//! # Ok::<(), TrainerError>(())
//! ```
//!
//! The main function of a test with `harness = false` that makes each scenario a test of its own is this call:
//!
//! ```no_run
//! # struct Mean(f32);
//! # impl traintrue::Trainer for Mean {
//! #     fn run(&mut self, _: &traintrue::Plan, _: &mut traintrue::Recorder)
//! #         -> Result<(), traintrue::TrainerError> { Ok(()) }
//! # }
//! traintrue::test_main(|| Mean(0.0));
//! ```

use std::io::Write;

use crate::contract::{Contract, Description};
use crate::plan::{Plan, SCHEMA};
use crate::recorder::Recorder;
use crate::trace::event::{End, EndReason, Run};

/// Whatever stops a trainer.
pub type TrainerError = Box<dyn std::error::Error + Send + Sync>;

/// A training loop that can be held to the scenarios.
pub trait Trainer {
    /// Trains as `plan` says, in a process of its own, and writes every event in between the first and the last line.
    fn run(&mut self, plan: &Plan, recorder: &mut Recorder) -> Result<(), TrainerError>;

    /// Name and version.
    fn name(&self) -> String {
        std::any::type_name::<Self>().to_owned()
    }

    /// Where it computes.
    fn device(&self) -> String {
        "cpu".to_owned()
    }

    /// What it can do, by the names in the scenarios' `needs`: a scenario that needs more is not judged, and says so. The
    /// first to have is `resume`: it then begins from `plan.start` and saves at `plan.stop` and `plan.save_every`.
    fn capabilities(&self) -> &[&str] {
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
        capabilities: trainer.capabilities().iter().map(|&it| it.to_owned()).collect(),
        contract: trainer.contract(),
    }
}

/// Runs a plan and writes its trace, first and last line included. Fails as the trainer or the writer does.
pub fn record(trainer: &mut impl Trainer, plan: &Plan, to: impl Write) -> Result<(), TrainerError> {
    let own = trainer.contract();
    let contract = if trainer.capabilities().contains(&"contract") { plan.contract.over(own) } else { own };
    let mut recorder = Recorder::new(to, plan);
    recorder.write(|| Run {
        schema: SCHEMA,
        trainer: trainer.name(),
        device: trainer.device(),
        scenario: plan.scenario.clone(),
        run: plan.run.clone(),
        plan: plan.clone(),
        recorded: None,
        contract,
    })?;
    let ran = trainer.run(plan, &mut recorder);
    if recorder.ended() {
        return ran;
    }
    let (reason, message) = match &ran {
        Err(error) => (EndReason::Error, Some(error.to_string())),
        Ok(()) if plan.stop.is_some() => (EndReason::Stopped, None),
        Ok(()) => (EndReason::Done, None),
    };
    let ended = recorder.write(|| End { reason, message });
    // What stopped the trainer comes before what became of its last line.
    ran?;
    Ok(ended?)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::contract::{Asked, Tail};
    use crate::plan::{Stop, example};
    use crate::trace::event::Epoch;
    use crate::trace::event::{Edge, MicroBatch};
    use rstest::rstest;

    struct Scripted {
        capabilities: &'static [&'static str],
        fails: bool,
    }

    impl Trainer for Scripted {
        fn run(&mut self, _: &Plan, recorder: &mut Recorder) -> Result<(), TrainerError> {
            recorder.write(|| Epoch { epoch: 0, edge: Edge::Begin })?;
            recorder.write(MicroBatch::default)?;
            if self.fails { Err("out of luck".into()) } else { Ok(()) }
        }

        fn capabilities(&self) -> &[&str] {
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

    #[rstest]
    #[case::that_can(&["contract"], "carry")]
    #[case::that_cannot(&[], "flush")]
    fn the_run_line_has_the_contract_that_is_followed_by_a_trainer(
        #[case] capabilities: &'static [&'static str],
        #[case] tail: &str,
    ) {
        let contract = Asked { tail: Some(Tail::Carry), ..Asked::default() };
        let plan = Plan { contract, ..example() };
        let (_, lines) = lines(&mut Scripted { capabilities, fails: false }, &plan);
        assert_eq!(lines[0]["contract"]["tail"], tail);
    }
}
