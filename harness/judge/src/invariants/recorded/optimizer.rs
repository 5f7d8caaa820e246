//! `loop/optimizer`: the optimizer holds what trains, and is the same one throughout the run.

use std::collections::{BTreeMap, BTreeSet};

use traintrue_protocol::number::Number;
use traintrue_protocol::trace::event::{MicroBatch, State, TensorState, Update};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::{Component, Moment};

use super::seen::{Optimizers, Sightings, is_done, number};
use crate::finding::{Difference, Sheet};
use crate::invariants::shared::names::listed;
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

/// Fewer updates do not show that gradients never come.
const LEAST: u64 = 3;

pub(crate) static RULE: Rule = Rule {
    name: "loop/optimizer",
    says: "the optimizers hold the tensors that train, receive their gradients, and are made once",
    verifies: "In the last state of the trace, most trainable tensors being held by an optimizer, all that have had a \
               gradient are. No two vectors stand still in no optimizer beside matrices of their modules that are in \
               one. With a declared pattern, exactly the matching tensors train. No optimizer is made again and again \
               over the same parameters. The only optimizer receives gradients. Each optimizer whose parameters have \
               gradients makes a step.",
    does_not_verify: "That held tensors change (state/optimized-moves). Models of which most is trainable and left out \
                      of the optimizer on purpose.",
    kind: Kind::Trace(|opening| Box::new(Held::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::State,
    needs: &[Fact::Observed],
};

struct Held {
    optimizers: Optimizers,
    patterns: Vec<String>,
    state: Option<Line>,
    /// The digest of each tensor at the start.
    began: BTreeMap<String, String>,
    /// Tensors that no optimizer held and that had a gradient.
    reached: BTreeSet<String>,
    remade: Sightings,
    /// How many of these had another rate than the update before, and that update's.
    other_rate: u64,
    rate: Option<Vec<Number>>,
    epochs: BTreeSet<(Option<u64>, u64)>,
    /// The loader of the last micro-batch, and that of the last one before the last update.
    loader: Option<u64>,
    updated_with: Option<Option<u64>>,
    micro_batches: u64,
    by_optimizer: BTreeMap<u64, Received>,
}

/// Updates of one optimizer, and those without any gradient.
#[derive(Default)]
struct Received {
    updates: u64,
    empty: Sightings,
}

impl Held {
    fn new(opening: &Opening) -> Self {
        Self {
            optimizers: Optimizers::of(opening),
            patterns: opening.recorded.map(|it| it.trainable.clone()).unwrap_or_default(),
            state: None,
            began: BTreeMap::new(),
            reached: BTreeSet::new(),
            remade: Sightings::default(),
            other_rate: 0,
            rate: None,
            epochs: BTreeSet::new(),
            loader: None,
            updated_with: None,
            micro_batches: 0,
            by_optimizer: BTreeMap::new(),
        }
    }

    fn micro_batch(&mut self, it: &MicroBatch) {
        self.micro_batches += 1;
        self.loader = it.loader;
        self.epochs.insert((it.loader, it.epoch));
    }

    fn update(&mut self, it: &Update, line: &Line, sheet: &mut Sheet) {
        let Some(since) = it.since.as_deref() else { return sheet.missing("since of an update") };
        // Continual learning makes an optimizer for each task's loader.
        let same_task = self.updated_with == Some(self.loader);
        if since.remade && same_task && !since.loaded {
            self.remade.add(line);
            self.other_rate += u64::from(self.rate.as_ref().is_some_and(|rate| *rate != it.lr));
        }
        self.rate = Some(it.lr.clone());
        self.updated_with = Some(self.loader);
        let received = self.by_optimizer.entry(number(it)).or_default();
        received.updates += 1;
        // Sharded parameters may receive gradients that no hook sees; then there is a norm at the step.
        let has_norm = it.grad_norm.is_some_and(|norm| norm.0 != 0.0);
        if since.micro_batches == 0 && !has_norm && !since.closure {
            received.empty.add(line);
        }
    }

    fn made_again(&self, sheet: &mut Sheet) {
        let Some(line) = self.remade.at_least(2) else { return };
        // Stages of one training, each of several epochs and with a rate of its own, begin with new moments on purpose.
        if self.other_rate == self.remade.times && self.remade.times + 1 < self.epochs.len() as u64 {
            return sheet.remark(format!(
                "a new optimizer with another rate is made {} times: its moments begin anew each time",
                self.remade.times
            ));
        }
        let step = step_of(line);
        sheet.check(false, line, || Difference {
            expected: "one optimizer for the whole run".into(),
            actual: format!(
                "a new one over the same parameters at update {step}, and {} more times",
                self.remade.times - 1
            ),
            component: Component::Moments,
            cause: format!(
                "the optimizer's moments begin anew at update {step}: a new optimizer is made inside the loop"
            ),
        });
    }

    fn receives(&self, sheet: &mut Sheet) {
        for (&optimizer, received) in &self.by_optimizer {
            let never = received.empty.times == received.updates && received.updates >= LEAST;
            let Some(line) = received.empty.first.as_ref().filter(|_| never && self.micro_batches >= LEAST)
            else {
                sheet.compared += received.updates - received.empty.times;
                continue;
            };
            if self.by_optimizer.len() > 1 {
                sheet.remark(format!(
                    "no gradient reached the parameters{} in {} updates",
                    self.optimizers.suffix(optimizer),
                    received.updates
                ));
                continue;
            }
            sheet.check(false, line, || Difference {
                expected: "gradients for the optimizer's parameters".into(),
                actual: format!("none in {} updates after {} micro-batches", received.updates, self.micro_batches),
                component: Component::OptimizerGroups,
                cause: "the optimizer holds none of the parameters that backward() reaches: the model was wrapped, moved or \
                        replaced after the optimizer was made".into(),
            });
        }
    }

    /// An optimizer that steps is judged by its updates.
    fn steps(&self, last: &Line, sheet: &mut Sheet) {
        let Event::End(end) = &last.event else { return };
        for &optimizer in end.idle.iter().filter(|_| is_done(last)) {
            let which = self.optimizers.named(optimizer);
            sheet.check(false, last, || Difference {
                expected: format!("steps of {which}: backward() left gradients in its parameters"),
                actual: "none in the whole run".into(),
                component: Component::OptimizerGroups,
                cause: format!(
                    "step() of {which} never runs: the parameters that only it holds never change"
                ),
            });
        }
    }

    /// Whether no optimizer holds a tensor that has had a gradient.
    fn is_left_out(&self, it: &TensorState) -> bool {
        !it.optimized && self.reached.contains(&it.name)
    }

    fn tensors(&self, sheet: &mut Sheet) {
        let Some(line) = &self.state else { return sheet.missing("state after the first update") };
        let Event::State(state) = &line.event else { return };
        let [left_out, held] =
            [false, true].map(|held| trainable(state).filter(|it| it.optimized == held).count());
        // A head that was added later is a few tensors. An optimizer that holds only a few of many is meant to.
        let reached = |it: &&TensorState| self.is_left_out(it);
        // What no forward uses has no gradient, and needs no optimizer.
        if let Some(first) = trainable(state).find(reached).filter(|_| left_out < held) {
            let (name, left_out) = (&first.name, trainable(state).filter(reached).count());
            sheet.check(false, line, || Difference {
                expected: format!("all {} trainable tensors in an optimizer", left_out + held),
                actual: format!("{left_out} in none, the first of them {name}"),
                component: Component::OptimizerGroups,
                cause: format!(
                    "the optimizer was made without {name}: it was left out, or added to the model or unfrozen later"
                ),
            });
            return;
        }
        if let Some(vectors) = self.vectors_left_out(state) {
            sheet.check(false, line, || Difference {
                expected: "vectors in an optimizer, as the matrices beside them".into(),
                actual: format!("{} are in none, and never move: {}", vectors.len(), listed(vectors.iter().copied())),
                component: Component::OptimizerGroups,
                cause: "the optimizer was made without these vectors: a group is missing, such as the one that does not decay".into(),
            });
            return;
        }
        if left_out > 0 {
            sheet.remark(format!("{left_out} of {} trainable tensors are in no optimizer", left_out + held));
        }
        sheet.compared += held as u64;
    }

    /// Vectors that train by what they say, are in no optimizer and never move: all of them, where all matrices are in
    /// one; or those beside a matrix of their module that is in one. None where fewer than two are.
    fn vectors_left_out<'a>(&self, state: &'a State) -> Option<Vec<&'a str>> {
        let module = |it: &TensorState| it.name.rsplit_once('.').map(|(module, _)| module.to_owned());
        let (matrices, vectors): (Vec<_>, Vec<_>) = trainable(state).partition(|it| it.shape.len() > 1);
        let held: BTreeSet<String> =
            matrices.iter().filter(|it| it.optimized).filter_map(|it| module(it)).collect();
        let is_group = matrices.len() > 1
            && matrices.iter().all(|it| it.optimized)
            && vectors.iter().all(|it| !it.optimized);
        let beside = |it: &&TensorState| is_group || module(it).is_some_and(|module| held.contains(&module));
        let stands_still = |it: &&TensorState| self.began.get(&it.name) == Some(&it.digest);
        let left_out =
            vectors.into_iter().filter(|it| self.is_left_out(it)).filter(beside).filter(stands_still);
        let found: Vec<&str> = left_out.map(|it| it.name.as_str()).collect();
        (found.len() > 1).then_some(found)
    }

    fn declared(&self, sheet: &mut Sheet) {
        let Some(line) = self.state.as_ref().filter(|_| !self.patterns.is_empty()) else { return };
        let Event::State(state) = &line.event else { return };
        for tensor in &state.tensors {
            let asked = self.patterns.iter().any(|pattern| names(pattern, &tensor.name));
            let trains = tensor.trainable && tensor.optimized;
            sheet.check(asked == trains, line, || Difference {
                expected: format!("{} to {}", tensor.name, if asked { "train" } else { "stay frozen" }),
                actual: match (tensor.trainable, tensor.optimized) {
                    (true, true) => "it is trainable, and an optimizer holds it".into(),
                    (true, false) => "no optimizer holds it".into(),
                    (false, _) => "it is frozen".into(),
                },
                component: Component::OptimizerGroups,
                cause: format!(
                    "{} the declared pattern {}: check {} where the optimizer is made",
                    if asked { "the tensor matches" } else { "the tensor trains and does not match" },
                    self.patterns.join(", "),
                    if asked && tensor.trainable { "which parameters it is given" } else { "requires_grad" }
                ),
            });
        }
    }
}

fn step_of(line: &Line) -> u64 {
    if let Event::Update(it) = &line.event { it.step } else { 0 }
}

fn trainable(state: &State) -> impl Iterator<Item = &TensorState> {
    state.tensors.iter().filter(|tensor| tensor.trainable)
}

/// Whether a pattern names a parameter. It may begin at any of the name's dots: `lora_*` names `layers.0.q.lora_a.weight`.
pub(super) fn names(pattern: &str, name: &str) -> bool {
    let starts = std::iter::once(0).chain(name.match_indices('.').map(|(at, _)| at + 1));
    starts.into_iter().any(|at| fits(pattern.as_bytes(), &name.as_bytes()[at..]))
}

/// Whether a text fits a pattern in which `*` stands for any text and `?` for one byte.
fn fits(pattern: &[u8], text: &[u8]) -> bool {
    // After a mismatch the last `*` takes one byte more: no other `*` needs to be tried again.
    let (mut at, mut of, mut star) = (0, 0, None);
    while at < text.len() {
        if pattern.get(of) == Some(&b'*') {
            star = Some((of, at));
            of += 1;
        } else if pattern.get(of).is_some_and(|&byte| byte == b'?' || byte == text[at]) {
            (at, of) = (at + 1, of + 1);
        } else if let Some((back, taken)) = star {
            (at, of) = (taken + 1, back + 1);
            star = Some((back, taken + 1));
        } else {
            return false;
        }
    }
    pattern[of..].iter().all(|&byte| byte == b'*')
}

impl TraceRule for Held {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        match &line.event {
            Event::MicroBatch(it) => self.micro_batch(it),
            Event::Update(it) => self.update(it, line, sheet),
            Event::State(it) if it.at == Moment::Start => {
                self.began = it.tensors.iter().map(|it| (it.name.clone(), it.digest.clone())).collect();
            }
            // At the start, the second optimizer may not be made yet.
            Event::State(it) if it.at != Moment::Start && !it.tensors.is_empty() => {
                let reached = |it: &&TensorState| !it.optimized && it.grad_norm.is_some();
                self.reached.extend(it.tensors.iter().filter(reached).map(|it| it.name.clone()));
                self.state = Some(line.clone());
            }
            _ => {}
        }
    }

    fn finish(&mut self, last: &Line, sheet: &mut Sheet) {
        self.receives(sheet);
        self.steps(last, sheet);
        self.tensors(sheet);
        self.declared(sheet);
        self.made_again(sheet);
    }
}

#[cfg(test)]
mod tests;
