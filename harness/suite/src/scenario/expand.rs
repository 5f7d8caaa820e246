//! Makes concrete runs of a scenario: literal plans, one a process.

use std::path::{Path, PathBuf};
use std::time::Duration;

use traintrue_judge::arithmetic;
use traintrue_judge::rule::rank_name;
use traintrue_protocol::plan::{Data, DeviceChoice, Plan, PlanError, Probe, ProbeAt, SCHEMA, Start, Stop};

use super::corpus::{Corpus, TOKENS};
use super::file::{Cut, Damage, Deaths, RunSpec, Scenario};
use super::plan::PlanSpec;

/// A scenario, ready to run.
#[derive(Clone, Debug)]
pub struct Expansion {
    /// The runs, in the scenario's order.
    pub runs: Vec<ConcreteRun>,
    /// What a reader of the verdict should know.
    pub notes: Vec<String>,
}

/// One run: one process after another.
#[derive(Clone, Debug)]
pub struct ConcreteRun {
    /// Its name.
    pub name: String,
    /// Its processes, in order.
    pub segments: Vec<Segment>,
    /// The folder of its checkpoints.
    pub checkpoints: PathBuf,
    /// The second segment dies while it saves: the runner makes one run a place of this one.
    pub deaths: Option<Deaths>,
}

/// One process of a run.
#[derive(Clone, Debug)]
pub struct Segment {
    /// What it is told.
    pub plan: Plan,
    /// What is done to the newest checkpoint before it starts.
    pub damage: Option<Damage>,
    /// How it is meant to die.
    pub dies: Option<Dies>,
}

/// How one process is meant to die.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Dies {
    /// By its own hand, before the file operation of this number, the first being 1.
    BeforeOperation {
        /// The operation.
        number: u64,
        /// Whether what was not synced is lost, as in a power cut.
        lose_unsynced: bool,
    },
    /// By SIGKILL, so long after its start.
    Killed {
        /// The time.
        after: Duration,
    },
    /// By an error of its own, which its trace tells.
    WithError,
}

/// The exit status of a process that died before a file operation, as it was told to.
pub const DIED: i32 = 86;

impl Dies {
    /// What the process is told through its environment; never through its plan, which is that of a process that lives.
    pub fn environment(self) -> Vec<(&'static str, String)> {
        let Self::BeforeOperation { number, lose_unsynced } = self else {
            return Vec::new();
        };
        let mut environment = vec![("TRAINTRUE_DIE_BEFORE_OPERATION", number.to_string())];
        if lose_unsynced {
            environment.push(("TRAINTRUE_LOSE_UNSYNCED", "1".to_owned()));
        }
        environment
    }
}

/// A scenario that gives no plan that could be followed.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum ExpandError {
    #[error("{scenario}: runs.{run}: {problem}")]
    Run { scenario: String, run: String, problem: String },
    #[error("{scenario}: runs.{run}: {source}")]
    Plan { scenario: String, run: String, source: PlanError },
}

/// The runs of `scenario` over `corpus`; each keeps its checkpoints in a folder of its own under `checkpoints`.
pub fn expand(scenario: &Scenario, corpus: &Corpus, checkpoints: &Path) -> Result<Expansion, ExpandError> {
    let mut expansion = Expansion { runs: Vec::new(), notes: Vec::new() };
    for written in &scenario.runs {
        let failed =
            |problem| ExpandError::Run { scenario: scenario.id.clone(), run: written.name.clone(), problem };
        let spec = scenario.plan_spec(written).map_err(failed)?;
        let (base, note) = literal(scenario, &spec, corpus);
        expansion.notes.extend(note.filter(|note| !expansion.notes.contains(note)));
        for run in each_cut(written) {
            let folder = checkpoints.join(&run.name);
            let segments = segments(&base, &run, &folder);
            if run.deaths.is_some() && segments.len() < 2 {
                return Err(failed("deaths: needs a cut, after which the process that dies begins".into()));
            }
            for segment in &segments {
                within_its_epoch(&segment.plan).map_err(|problem| ExpandError::Run {
                    scenario: scenario.id.clone(),
                    run: run.name.clone(),
                    problem,
                })?;
                segment.plan.check().map_err(|source| ExpandError::Plan {
                    scenario: scenario.id.clone(),
                    run: run.name.clone(),
                    source,
                })?;
            }
            let (name, deaths) = (run.name, run.deaths);
            let one = ConcreteRun { name, segments, checkpoints: folder, deaths };
            if base.train.together && (one.deaths.is_some() || run.damage.is_some()) {
                return Err(failed("deaths and damage: not for ranks that train together".into()));
            }
            if base.train.together {
                expansion.runs.extend((0..base.train.world).map(|rank| one.as_rank(rank)));
            } else {
                expansion.runs.push(one);
            }
        }
    }
    Ok(expansion)
}

/// A trainer cannot stop where no micro-batch is, and would be accused of it.
fn within_its_epoch(plan: &Plan) -> Result<(), String> {
    let Some(stop) = &plan.stop else { return Ok(()) };
    let most = arithmetic::batches(&plan.data) / plan.train.world.max(1);
    if stop.micro_batches <= most {
        return Ok(());
    }
    Err(format!(
        "a stop after {} micro-batches of epoch {}, expected at most {most}: an epoch has no more",
        stop.micro_batches, stop.epoch
    ))
}

/// One run a value of `each_cut_after`; else the run itself.
fn each_cut(run: &RunSpec) -> Vec<RunSpec> {
    let Some(each) = &run.each_cut_after else {
        return vec![run.clone()];
    };
    let named = |&micro_batches: &u64| RunSpec {
        name: run.name_after(micro_batches),
        cuts: vec![Cut { epoch: each.epoch, micro_batches }],
        each_cut_after: None,
        ..run.clone()
    };
    each.micro_batches.iter().map(named).collect()
}

/// The plan with its data spelt out, and a note where the corpus was too short.
fn literal(scenario: &Scenario, spec: &PlanSpec, corpus: &Corpus) -> (Plan, Option<String>) {
    let data = &spec.data;
    let mut cut = corpus.samples(data.samples + data.evaluation, data.piece_bytes, data.offset);
    let note = (cut.repeated > 0)
        .then(|| format!("the corpus is too short: it was repeated {} times, in order", cut.repeated));
    let evaluation = cut.ids.split_off(data.samples as usize);
    for &id in &data.long {
        if let Some(long) = cut.ids.get(id as usize..).map(joined) {
            cut.ids[id as usize] = long;
        }
    }
    for &id in &data.empty {
        if let Some(sample) = cut.ids.get_mut(id as usize) {
            sample.clear();
        }
    }
    let data = Data {
        samples: cut.ids,
        evaluation,
        tokens: TOKENS,
        batch: data.batch,
        epochs: data.epochs,
        shuffle: data.shuffle,
        padding: data.padding,
        max_length: data.max_length,
        drop_last: data.drop_last,
    };
    let plan = Plan {
        schema: SCHEMA,
        scenario: scenario.id.clone(),
        run: String::new(),
        seed: spec.seed,
        data,
        train: spec.train.clone(),
        model: spec.model.clone(),
        start: None,
        stop: None,
        evaluate_every: spec.evaluate_every,
        save_every: spec.save_every,
        save_to: None,
        state_every: spec.state_every,
        sample_memory: spec.sample_memory.clone(),
        probes: spec.probes.iter().cloned().chain(window_probes(spec)).collect(),
        operations: spec.operations,
        devices: spec.devices.clone(),
        cycles: spec.cycles.clone(),
        contract: spec.contract.clone(),
        memory: spec.memory,
        trace: None,
    };
    (plan, note)
}

/// One sample of the text of several.
fn joined(samples: &[Vec<u32>]) -> Vec<u32> {
    let text = samples.iter().flatten().copied().filter(|&id| id != TOKENS.bos && id != TOKENS.eos);
    std::iter::once(TOKENS.bos).chain(text).chain(std::iter::once(TOKENS.eos)).collect()
}

/// A probe of each of the first windows, as they are where nothing shuffles.
fn window_probes(spec: &PlanSpec) -> impl Iterator<Item = Probe> {
    let window = spec.data.batch * spec.train.accumulation;
    let samples = spec.data.samples;
    (0..spec.window_probes).map(move |number| Probe {
        name: format!("window:{}", number + 1),
        at: ProbeAt::Start,
        samples: (number * window..((number + 1) * window).min(samples)).collect(),
        padding: None,
        dtype: None,
        cached: false,
        gradients: true,
    })
}

/// A process up to each cut, and one to the run's end. A run with deaths has one more: the second dies, and the third begins
/// from what it left.
fn segments(base: &Plan, run: &RunSpec, folder: &Path) -> Vec<Segment> {
    let until = run.until.map(|until| stop(until, None));
    let mut stops: Vec<Option<Stop>> =
        run.cuts.iter().map(|&cut| Some(stop(cut, Some(folder.to_owned())))).collect();
    if run.deaths.is_some() || run.limit_bytes.is_some() {
        stops.push(until.clone());
    }
    stops.push(until);
    let last = stops.len() - 1;
    let limited = |at: usize| run.limit_bytes.filter(|_| at == 0);
    let devices = |at: usize| match limited(at) {
        Some(limit) => vec![DeviceChoice { device: None, budget_bytes: Some(limit) }],
        None => base.devices.clone(),
    };
    let fails = |at: usize| limited(at).is_some() || (run.fails && at == last);
    let segment = |(at, stop)| Segment {
        plan: Plan {
            run: run.name.clone(),
            start: (at > 0).then(|| Start { from: folder.to_owned(), what: run.restore }),
            stop,
            save_to: (base.save_every.is_some() || base.memory.is_some()).then(|| folder.to_owned()),
            devices: devices(at),
            ..base.clone()
        },
        damage: run.damage.clone().filter(|_| at > 0 && at == last),
        dies: fails(at).then_some(Dies::WithError),
    };
    stops.into_iter().enumerate().map(segment).collect()
}

fn stop(cut: Cut, save: Option<PathBuf>) -> Stop {
    Stop { epoch: cut.epoch, micro_batches: cut.micro_batches, save }
}

impl ConcreteRun {
    /// One rank of this run, called `NAME.rank-R`. Its ranks share their checkpoints.
    fn as_rank(&self, rank: u64) -> Self {
        let mut run = self.clone();
        run.name = rank_name(&self.name, rank);
        for segment in &mut run.segments {
            segment.plan.run.clone_from(&run.name);
            segment.plan.train.rank = rank;
        }
        run
    }

    /// Whether its processes train together with those of other ranks.
    pub fn is_rank(&self) -> bool {
        self.segments.iter().any(|segment| segment.plan.train.together)
    }

    /// This run under another name and with checkpoints of its own, its second segment dying as `dies` says.
    pub fn dying(&self, name: &str, dies: Option<Dies>) -> Self {
        let mut run = self.called(name);
        run.deaths = None;
        for segment in run.segments.iter_mut().skip(1).take(1) {
            segment.dies = dies;
        }
        run
    }

    /// This run under another name and with checkpoints of its own.
    pub fn called(&self, name: &str) -> Self {
        let mut run = self.clone();
        run.name = name.to_owned();
        run.checkpoints = self.checkpoints.with_file_name(name);
        for segment in &mut run.segments {
            segment.plan.run = name.to_owned();
            if let Some(start) = &mut segment.plan.start {
                start.from.clone_from(&run.checkpoints);
            }
            let saves = segment.plan.stop.as_mut().and_then(|stop| stop.save.as_mut());
            for folder in saves.into_iter().chain(&mut segment.plan.save_to) {
                folder.clone_from(&run.checkpoints);
            }
        }
        run
    }
}
