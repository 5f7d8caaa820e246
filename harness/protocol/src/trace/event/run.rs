//! The first line of a trace: who ran what, under which conventions; with a plan, or with what is known of a loop.

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::contract::Contract;
use crate::plan::{Plan, SCHEMA};
use crate::trace::recorded::Recorded;

/// The first line: who ran what, under which conventions.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(try_from = "WrittenRun")]
pub struct Run {
    /// The version of the trace format.
    #[schemars(extend("const" = SCHEMA))]
    pub schema: u32,
    /// Name and version of the trainer.
    pub trainer: String,
    /// Where it ran.
    pub device: String,
    /// The plan's scenario.
    pub scenario: String,
    /// The plan's run.
    pub run: String,
    /// The plan itself; of a loop that was told none, the one that it follows as far as that is known.
    pub plan: Plan,
    /// What is known of a loop that was recorded as it is.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub recorded: Option<Recorded>,
    /// The conventions the trainer declares.
    pub contract: Contract,
}

/// The first line as it stands in a trace: with a plan, or with what is known of a loop that was told none.
#[derive(Deserialize, JsonSchema)]
#[schemars(rename = "Run")]
struct WrittenRun {
    /// The version of the trace format.
    #[schemars(extend("const" = SCHEMA))]
    schema: u32,
    /// Name and version of the trainer.
    trainer: String,
    /// Where it ran.
    device: String,
    /// The plan's scenario; `recorded` where there was none.
    scenario: String,
    /// The plan's run.
    run: String,
    /// The plan itself.
    #[serde(default)]
    plan: Option<Plan>,
    /// What is known of a loop that was recorded as it is, in the place of a plan.
    #[serde(default)]
    recorded: Option<Recorded>,
    /// The conventions the trainer declares.
    contract: Contract,
}

impl TryFrom<WrittenRun> for Run {
    type Error = String;

    fn try_from(written: WrittenRun) -> Result<Self, String> {
        let WrittenRun { schema, trainer, device, scenario, run, plan, recorded, contract } = written;
        let plan = match (plan, &recorded) {
            (_, Some(recorded)) => {
                recorded.plan(&scenario, &run).map_err(|error| format!("recorded: {error}"))?
            }
            (Some(plan), None) => plan,
            (None, None) => {
                return Err("missing field `plan`, or `recorded` for a loop that was told none".to_owned());
            }
        };
        Ok(Self { schema, trainer, device, scenario, run, plan, recorded, contract })
    }
}
