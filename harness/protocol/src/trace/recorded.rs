//! What is known of a loop that was recorded as it is: it was told no plan.
//!
//! What a recorder sees and what its user declares stand in the plan's place. What neither says is absent, and the
//! invariants that need it are not judged.

use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::number::Number;
use crate::plan::{
    Data, Dtype, Model, Optimizer, Padding, PaddingPolicy, Plan, PlanError, SCHEMA, Schedule, ScheduleName,
    Side, Tokens, Train,
};

/// More samples than this are not counted one by one.
const SAMPLES_MOST: u64 = 1 << 22;

/// What is known of a loop that was told no plan.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, JsonSchema)]
#[serde(deny_unknown_fields)]
pub struct Recorded {
    /// Samples that the loader goes through in an epoch.
    #[serde(default)]
    pub samples: Option<u64>,
    /// Samples a micro-batch.
    #[serde(default)]
    pub batch: Option<u64>,
    /// Whether the loader leaves out an epoch's last, smaller micro-batch.
    #[serde(default)]
    pub drop_last: bool,
    /// Passes over the samples.
    #[serde(default)]
    pub epochs: Option<u64>,
    /// Micro-batches in an accumulation window.
    pub accumulation: u64,
    /// Global gradient norm above which gradients are scaled down.
    #[serde(default)]
    pub clip: Option<f64>,
    /// Peak learning rate.
    #[serde(default)]
    pub lr: Option<f64>,
    /// The learning-rate schedule.
    #[serde(default)]
    pub schedule: Option<Schedule>,
    /// Added to the root of the second moment, where the optimizer is of Adam's family.
    #[serde(default)]
    pub eps: Option<f64>,
    /// Number format of the parameters.
    #[serde(default)]
    pub dtype: Dtype,
}

/// What an invariant must know of a recorded loop beside its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// How many samples the loader gives, and in batches of how many.
    LoaderLength,
    /// That length, and the number of epochs.
    WholeRun,
    /// The norm that gradients are clipped to.
    Clip,
    /// That the optimizer is of Adam's family, by its `eps`.
    AdamFamily,
    /// The peak rate, the form of the schedule, and the number of updates that it spans.
    Schedule,
    /// What only a plan tells: literal samples, probes, adapters, the runs beside this one.
    Plan,
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::LoaderLength => "a loader of known length",
            Self::WholeRun => "epochs, and a loader of known length",
            Self::Clip => "clip",
            Self::AdamFamily => "an optimizer of Adam's family",
            Self::Schedule => "schedule",
            Self::Plan => "a plan",
        })
    }
}

impl Recorded {
    /// The first of these facts that the recording does not give; nothing where it gives all of them.
    pub fn lacks(&self, needed: &[Fact]) -> Option<Fact> {
        needed.iter().copied().find(|fact| !self.gives(*fact))
    }

    fn gives(&self, fact: Fact) -> bool {
        let size = self.size().is_some();
        let whole = size && self.epochs.is_some();
        match fact {
            Fact::LoaderLength => size,
            Fact::WholeRun => whole,
            Fact::Clip => self.clip.is_some(),
            Fact::AdamFamily => self.eps.is_some(),
            // A schedule over a given number of updates needs no epochs to count them from.
            Fact::Schedule => {
                self.lr.is_some() && self.schedule.as_ref().is_some_and(|it| whole || it.updates.is_some())
            }
            Fact::Plan => false,
        }
    }

    fn size(&self) -> Option<(u64, u64)> {
        self.samples.filter(|samples| (1..=SAMPLES_MOST).contains(samples)).zip(self.batch)
    }

    /// The plan that such a loop follows, as far as it is known. The rest is a stand-in; nothing that needs it is judged.
    /// Fails where a figure is one that no plan may have.
    pub fn plan(&self, scenario: &str, run: &str) -> Result<Plan, PlanError> {
        let (samples, batch) = self.size().unwrap_or((1, 1));
        let constant = Schedule { name: ScheduleName::Constant, warmup: 0, updates: None };
        let optimizer = Optimizer {
            name: "adamw".to_owned(),
            lr: self.lr.unwrap_or(1.0),
            betas: [0.9, 0.999],
            eps: self.eps.unwrap_or(1e-8),
            decay: 0.0,
        };
        let train = Train {
            accumulation: self.accumulation,
            optimizer,
            clip: self.clip,
            schedule: self.schedule.clone().unwrap_or(constant),
            dropout: 0.0,
            adapters: None,
            heads: Vec::new(),
            forward: Default::default(),
            checkpointing: false,
            cache: false,
            dtype: self.dtype,
            rank: 0,
            world: 1,
        };
        let plan = Plan {
            schema: SCHEMA,
            scenario: scenario.to_owned(),
            run: run.to_owned(),
            seed: 0,
            data: Data {
                samples: vec![Vec::new(); samples as usize],
                evaluation: Vec::new(),
                tokens: Tokens { pad: 0, bos: 1, eos: 2, vocabulary: 3 },
                batch,
                epochs: self.epochs.unwrap_or(1),
                shuffle: true,
                padding: Padding { policy: PaddingPolicy::Longest, side: Side::Right, multiple_of: 1 },
                max_length: 2,
                drop_last: self.drop_last,
            },
            train,
            model: Model { size: "recorded".to_owned() },
            start: None,
            stop: None,
            evaluate_every: None,
            save_every: None,
            save_to: None,
            state_every: None,
            sample_memory: Vec::new(),
            probes: Vec::new(),
            devices: Vec::new(),
            cycles: Vec::new(),
            contract: Default::default(),
            memory: None,
            trace: None,
        };
        plan.check()?;
        Ok(plan)
    }

    /// What is known, in words.
    pub fn words(&self) -> String {
        let mut words = vec![format!("windows of {}", self.accumulation)];
        if let Some((samples, batch)) = self.size() {
            words.insert(0, format!("{samples} samples in batches of {batch}"));
        }
        words.extend(self.epochs.map(|epochs| format!("{epochs} epochs")));
        words.extend(self.clip.map(|clip| format!("clip {}", Number(clip))));
        words.extend(self.schedule.as_ref().map(|it| format!("{:?} schedule", it.name).to_lowercase()));
        words.join(", ")
    }
}
