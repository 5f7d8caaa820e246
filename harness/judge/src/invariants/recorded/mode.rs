//! `loop/mode`: dropout and batch norms are in training mode while the model trains.

use std::collections::BTreeMap;

use traintrue_protocol::trace::event::{MicroBatch, State};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::since::Modes;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::{Component, Moment};

use super::seen::Sightings;
use crate::finding::{Difference, Sheet};
use crate::invariants::shared::place::micro_batches;
use crate::rule::{Compares, Kind, Rank, Rule, TraceRule};

/// Fewer micro-batches in evaluation mode may be meant.
const LEAST: u64 = 3;

pub(crate) static RULE: Rule = Rule {
    name: "loop/mode",
    says: "the model is in training mode at every micro-batch that trains it",
    verifies: "Not all dropout and batch-norm modules are in evaluation mode at the forward passes of training, neither \
               throughout the run nor from some micro-batch on. Frozen batch norms that the script has put into \
               evaluation mode stay in it.",
    does_not_verify: "Single modules that the loop keeps in evaluation mode, such as frozen batch norms, beside others \
                      that train in training mode. Models without dropout and batch norms.",
    kind: Kind::Trace(|_| Box::new(Mode::default())),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::State,
    needs: &[Fact::Observed],
};

#[derive(Default)]
struct Mode {
    /// Micro-batches with batch norms that were frozen and are in training mode again, and how many of them.
    drifting: Sightings,
    norms: u64,
    /// By the optimizers that a micro-batch trains: the two models of a GAN have modes of their own.
    models: BTreeMap<Vec<u64>, Seen>,
    updates: u64,
    /// Whether most tensors are frozen and none is an adapter: a head on fixed features.
    is_probe: bool,
}

#[derive(Default)]
struct Seen {
    micro_batches: u64,
    /// Micro-batches in training mode, and those with some modules in evaluation mode.
    on: u64,
    partial: u64,
    /// The first and the number of the consecutive micro-batches up to now in evaluation mode.
    off: Sightings,
    began: Option<Began>,
    /// The longest such stretch after training mode that has at least [`LEAST`], if any.
    fallen: Option<(Line, u64, Began)>,
    modes: Modes,
    evaluated: bool,
}

/// Where a stretch in evaluation mode began.
#[derive(Clone, Copy)]
struct Began {
    /// Updates done.
    step: u64,
    /// Whether an evaluation came right before.
    evaluated: bool,
    /// Whether no update came in the stretch, and training mode came back after it.
    inside: bool,
}

impl Seen {
    fn add(&mut self, modes: Modes, updates: u64, line: &Line) {
        self.micro_batches += 1;
        if modes.all_off() {
            let began = Began { step: updates, evaluated: self.evaluated, inside: false };
            self.began.get_or_insert(began);
            self.off.add(line);
            self.modes = modes;
        } else {
            if let Some(began) = &mut self.began {
                began.inside = began.step == updates;
            }
            self.end_stretch(LEAST);
            self.on += 1;
            self.partial += u64::from(modes.evaluation > 0);
        }
        self.evaluated = false;
    }

    fn end_stretch(&mut self, least: u64) {
        let off = std::mem::take(&mut self.off);
        let began = self.began.take();
        if let (true, Some(line), Some(began), None) = (self.on > 0, off.at_least(least), began, &self.fallen)
        {
            self.fallen = Some((line.clone(), off.times, began));
        }
    }
}

impl Mode {
    fn micro_batch(&mut self, it: &MicroBatch, line: &Line, sheet: &mut Sheet) {
        let Some(modes) = it.modes else { return sheet.missing("modes of a micro-batch") };
        if let Some(norms) = modes.drifting.filter(|norms| *norms > 0) {
            self.drifting.add(line);
            self.norms = self.norms.max(norms);
        }
        if modes.all() > 0 {
            self.models.entry(it.optimizers.clone()).or_default().add(modes, self.updates, line);
        }
    }

    fn state(&mut self, it: &State) {
        let trained = it.tensors.iter().filter(|tensor| tensor.trainable).count();
        let has_adapter = it.tensors.iter().any(|tensor| tensor.trainable && tensor.name.contains("lora_"));
        self.is_probe = trained * 2 < it.tensors.len() && !has_adapter;
    }
}

fn never(seen: &Seen, sheet: &mut Sheet) {
    let Some(line) = &seen.off.first else { return };
    let (modules, count) = (seen.modes.evaluation, seen.micro_batches);
    sheet.check(false, line, || Difference {
        expected: "the model in training mode".into(),
        actual: format!(
            "all {modules} dropout and batch-norm modules in evaluation mode, at all {}",
            micro_batches(count)
        ),
        component: Component::Evaluation,
        cause: format!(
            "model.train() was never called: {modules} dropout and batch-norm modules are off in training"
        ),
    });
}

fn fallen(line: &Line, count: u64, began: Began, modules: u64, sheet: &mut Sheet) {
    let step = began.step;
    sheet.check(false, line, || Difference {
        expected: format!("the model in training mode after update {step}, as before"),
        actual: format!(
            "all {modules} dropout and batch-norm modules in evaluation mode from there on, at {}",
            micro_batches(count)
        ),
        component: Component::Evaluation,
        cause: if began.inside {
            format!(
                "{} of an evaluation run a backward pass, after update {step}: their gradients are added to training's",
                micro_batches(count)
            )
        } else if began.evaluated {
            format!("the evaluation after update {step} calls model.eval(), and model.train() is not called after it")
        } else {
            format!("something after update {step} calls model.eval(), and model.train() is not called after it")
        },
    });
}

fn drift(line: &Line, norms: u64, count: u64, sheet: &mut Sheet) {
    sheet.check(false, line, || Difference {
        expected: format!("{norms} frozen batch norms in evaluation mode, into which the script has put them"),
        actual: format!("in training mode again, at {}", micro_batches(count)),
        component: Component::Evaluation,
        cause: "model.train() puts frozen batch norms back into training mode: their running statistics move although \
                nothing in them trains. eval() must be called on them after it"
            .into(),
    });
}

impl TraceRule for Mode {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        match &line.event {
            Event::MicroBatch(it) => self.micro_batch(it, line, sheet),
            Event::Evaluation(_) => self.models.values_mut().for_each(|seen| seen.evaluated = true),
            Event::Update(_) => self.updates += 1,
            Event::State(it) if it.at == Moment::Start => self.state(it),
            _ => {}
        }
    }

    fn finish(&mut self, _last: &Line, sheet: &mut Sheet) {
        if let Some(line) = self.drifting.at_least(LEAST) {
            drift(line, self.norms, self.drifting.times, sheet);
        }
        for seen in self.models.values_mut() {
            sheet.compared += seen.on;
            if seen.on == 0 && self.is_probe {
                sheet.cannot("the model's mode: it is in evaluation mode, and most of it is frozen");
            } else if seen.on == 0 && seen.micro_batches >= LEAST {
                never(seen, sheet);
            } else {
                // At the end of the trace two are enough: nothing shows that the mode would have come back.
                seen.end_stretch(LEAST - 1);
            }
            if let Some((line, count, began)) = &seen.fallen {
                fallen(line, *count, *began, seen.modes.evaluation, sheet);
            } else if seen.on > 0 && seen.partial == seen.on {
                sheet.remark("some dropout or batch-norm modules stay in evaluation mode throughout".into());
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use traintrue_protocol::contract::Tail;

    use super::*;
    use crate::invariants::recorded::testing::micro_batches;
    use crate::invariants::recorded::testing::*;
    use crate::testing::{breaks, judge};

    const ON: Modes = Modes { training: 3, evaluation: 0, model: Some(true), drifting: None };
    const OFF: Modes = Modes { training: 0, evaluation: 3, model: Some(false), drifting: None };

    fn changed(change: fn(&mut MicroBatch)) -> Vec<Event> {
        let mut events = clean(Shape { tail: Tail::Carry, ..Shape::default() });
        micro_batches(&mut events).for_each(change);
        events
    }

    #[rstest]
    #[case::in_training(changed(|_| ()))]
    #[case::some_norms_frozen(changed(|it| it.modes = Some(Modes { training: 2, evaluation: 1, ..ON })))]
    #[case::all_norms_frozen_on_purpose(changed(|it| it.modes = Some(Modes { model: Some(true), ..OFF })))]
    #[case::norms_frozen_later(changed(|it| if it.epoch == 2 { it.modes = Some(Modes { model: Some(true), ..OFF }) }))]
    #[case::once(changed(|it| if (it.epoch, it.index) == (1, 4) { it.modes = Some(OFF) }))]
    #[case::nothing_to_switch(changed(|it| it.modes = Some(Modes::default())))]
    fn what_right_loops_do_is_no_accusation(#[case] events: Vec<Event>) {
        let sheet = judge(RULE.name, &events);
        assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
    }

    #[rstest]
    #[case::never(changed(|it| it.modes = Some(OFF)), "model.train() was never called: 3 dropout")]
    #[case::never_again(changed(|it| if it.epoch == 2 { it.modes = Some(OFF) }), "something after update 5 calls model.eval()")]
    #[case::until_the_next_epoch(changed(|it| if it.epoch == 1 && it.index > 4 { it.modes = Some(OFF) }),
        "something after update 3")]
    fn evaluation_mode_while_training_breaks(#[case] events: Vec<Event>, #[case] cause: &str) {
        let found = breaks(judge(RULE.name, &events), "evaluation");
        assert!(found.contains(cause), "{found}");
    }

    #[test]
    fn frozen_batch_norms_that_train_again_break() {
        let drifting = Modes { training: 2, evaluation: 0, model: Some(true), drifting: Some(1) };
        let mut events = changed(|_| ());
        micro_batches(&mut events).for_each(|it| it.modes = Some(drifting));
        let found = breaks(judge(RULE.name, &events), "evaluation");
        assert!(found.contains("model.train() puts frozen batch norms back"), "{found}");
    }

    /// Training goes on in the window that was open, with the gradients of the evaluation.
    #[test]
    fn backward_passes_of_an_evaluation_are_named() {
        let mut events = changed(|it| it.modes = Some(ON));
        let at = crate::testing::position(
            &events,
            |event| matches!(event, Event::MicroBatch(it) if it.epoch == 1),
        );
        let mut inside = events[at].clone();
        if let Event::MicroBatch(it) = &mut inside {
            it.modes = Some(OFF);
        }
        events.splice(at..at, vec![inside; 4]);
        let found = breaks(judge(RULE.name, &events), "evaluation");
        assert!(found.starts_with("4 micro-batches of an evaluation run a backward pass"), "{found}");
    }

    #[test]
    fn an_evaluation_right_before_is_named() {
        let mut events = changed(|it| {
            if it.epoch == 2 {
                it.modes = Some(OFF)
            }
        });
        let begin =
            crate::testing::position(&events, |event| matches!(event, Event::Epoch(it) if it.epoch == 2));
        events.insert(begin, evaluation(5));
        let found = breaks(judge(RULE.name, &events), "evaluation");
        assert!(found.starts_with("the evaluation after update 5 calls model.eval()"), "{found}");
    }
}
