//! What is known of a loop that was recorded as it is: it was told no plan.
//!
//! What a recorder sees and what its user declares stand in the plan's place. What neither says is absent, and the
//! invariants that need it are not judged.

use std::collections::BTreeMap;
use std::fmt;

use schemars::JsonSchema;
use serde::{Deserialize, Serialize};

use crate::plan::{
    Data, Dtype, Model, Optimizer, Padding, PaddingPolicy, Plan, PlanError, SCHEMA, Schedule, ScheduleName,
    Side, Tokens, Train,
};

/// More samples than this are not counted one by one.
const SAMPLES_MOST: u64 = 1 << 22;

/// What is known of a loop that was told no plan.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize, JsonSchema)]
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
    /// Micro-batches in an accumulation window, where the user or a framework says so. Windows are otherwise judged by what
    /// most of them are.
    #[serde(default)]
    pub accumulation: Option<u64>,
    /// Global gradient norm above which gradients are scaled down.
    #[serde(default)]
    pub clip: Option<f64>,
    /// Peak learning rate.
    #[serde(default)]
    pub lr: Option<f64>,
    /// The learning-rate schedule.
    #[serde(default)]
    pub schedule: Option<Schedule>,
    /// The declared schedule in words, where each update's `since` has the rates that it gives.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rates: Option<String>,
    /// Added to the root of the second moment, where the optimizer is of Adam's family.
    #[serde(default)]
    pub eps: Option<f64>,
    /// Number format of the parameters.
    #[serde(default)]
    pub dtype: Dtype,
    /// The facts above that a framework's own settings gave, and which settings:
    /// `{"accumulation": "transformers.TrainingArguments"}`. Accumulation, clip and epochs that are not here were declared by
    /// the user.
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    pub read: BTreeMap<String, String>,
    /// The order in which loader 0 gives its samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub order: Option<Order>,
    /// Worker processes of loader 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub workers: Option<u64>,
    /// Whether loader 0 reads an iterable dataset, which has no indices.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub stream: Option<bool>,
    /// Patterns of the names of parameters that should train, such as `lora_*`, declared by the user; empty where nothing is
    /// declared.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub trainable: Vec<String>,
    /// Weight decay of all that trains, declared by the user.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub decay: Option<f64>,
    /// Patterns of the names of parameters that do not decay, declared by the user.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub no_decay: Vec<String>,
    /// The classes of the optimizers, by number. A recorder that writes what it saw since the last update writes them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub optimizers: Vec<String>,
    /// Micro-batches after which the recorder ends the process, or tells it to end by a signal, where a run is cut.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cut_after: Option<u64>,
    /// This process among those that train together; absent where it trains alone.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rank: Option<u64>,
    /// How many processes train together.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub world: Option<u64>,
    /// Why these processes are not copies of each other; absent where they are, and are compared.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub apart: Option<String>,
}

/// The order in which a loader gives its samples.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize, JsonSchema)]
#[serde(rename_all = "kebab-case")]
pub enum Order {
    /// Each sample once per epoch, in random order.
    Shuffled,
    /// Each sample once per epoch, in the order of the dataset.
    Sequential,
    /// A sampler that may leave out or repeat samples.
    Other,
}

/// What an invariant must know of a recorded loop beside its trace.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fact {
    /// What the recorder saw since each update: a recording by a recorder that writes it.
    Observed,
    /// That the only optimizer is of Adam's family, by its `eps`.
    AdamFamily,
    /// The peak rate of the only optimizer, the form of its schedule, and the number of updates that the schedule spans.
    Schedule,
    /// The rates that a declared schedule gives, update by update.
    Rates,
    /// What only a plan tells: literal samples, probes, adapters, the runs beside this one.
    Plan,
}

impl fmt::Display for Fact {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Observed => "what happened between updates (recorded by an older traintrue)",
            Self::AdamFamily => "a single optimizer of Adam's family",
            Self::Schedule | Self::Rates => "a schedule (declare it to hold each rate)",
            Self::Plan => "a plan",
        })
    }
}

fn es(count: u64) -> &'static str {
    if count == 1 { "" } else { "es" }
}

impl Recorded {
    /// The first of these facts that the recording does not give; nothing where it gives all of them.
    pub fn lacks(&self, needed: &[Fact]) -> Option<Fact> {
        needed.iter().copied().find(|fact| !self.gives(*fact))
    }

    fn gives(&self, fact: Fact) -> bool {
        let alone = self.optimizers.len() < 2;
        match fact {
            Fact::Observed => !self.optimizers.is_empty(),
            Fact::AdamFamily => alone && self.eps.is_some(),
            // A schedule over a given number of updates needs no epochs to count them from.
            Fact::Schedule => {
                let counted = self.accumulation.is_some() && self.epochs.is_some() && self.size().is_some();
                let spans = |it: &Schedule| counted || it.updates.is_some();
                alone && self.lr.is_some() && self.schedule.as_ref().is_some_and(spans)
            }
            Fact::Rates => self.rates.is_some(),
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
            accumulation: self.accumulation.unwrap_or(1),
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
            together: false,
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
            operations: false,
            cycles: Vec::new(),
            contract: Default::default(),
            memory: None,
            trace: None,
        };
        plan.check()?;
        Ok(plan)
    }

    /// What was said of the loop, each with who said it: the user, or the settings of a framework.
    pub fn words(&self) -> Vec<String> {
        let by = |fact: &str| match self.read.get(fact) {
            Some(settings) => format!("read from {settings}"),
            None => "declared".to_owned(),
        };
        let accumulation = self
            .accumulation
            .map(|it| format!("windows of {it} micro-batch{} ({})", es(it), by("accumulation")));
        let clip = self.clip.map(|it| format!("clip {it} ({})", by("clip")));
        let epochs = self.epochs.map(|it| format!("{it} epochs ({})", by("epochs")));
        let schedule = self.schedule.as_ref();
        let schedule =
            schedule.map(|it| format!("{:?} schedule ({})", it.name, by("schedule")).to_lowercase());
        let rates = self.rates.as_ref().map(|it| format!("schedule {it} (declared)"));
        let trainable = (!self.trainable.is_empty())
            .then(|| format!("only {} train ({})", self.trainable.join(", "), by("trainable")));
        [accumulation, clip, epochs, schedule, rates, trainable].into_iter().flatten().collect()
    }
}
