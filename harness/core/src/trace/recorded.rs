//! What is known of a loop that was recorded as it is: it was told no plan.
//!
//! What a recorder sees and what its user declares stand in the plan's place. What neither says is absent, and the
//! invariants that need it are not judged.

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

impl Recorded {
    /// What an invariant over single traces needs and the recording does not say; nothing where it can be judged.
    pub fn lacks(&self, invariant: &str) -> Option<&'static str> {
        let needs = |known: bool, what| (!known).then_some(what);
        let size = self.size().is_some();
        match invariant {
            "finite/everywhere"
            | "state/frozen-constant"
            | "state/trains-what-was-asked"
            | "evaluation/changes-nothing" => None,
            "state/optimized-moves" => needs(self.eps.is_some(), "an optimizer of Adam's family"),
            "clip/global-norm" => needs(self.clip.is_some(), "clip"),
            "window/closes-as-declared" | "ledger/every-sample-once" => {
                needs(size, "a loader of known length")
            }
            "protocol/ends" => needs(size && self.epochs.is_some(), "epochs, and a loader of known length"),
            "schedule/closed-form" => {
                let total = self.schedule.as_ref().is_some_and(|it| it.updates.is_some());
                let known = self.lr.is_some() && self.schedule.is_some();
                needs(known && (total || (size && self.epochs.is_some())), "schedule")
            }
            _ => Some("a plan"),
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
