//! `loop/evaluation`: training goes on after an evaluation as if it had not been.

use std::collections::BTreeMap;

use traintrue_protocol::trace::event::{Evaluation, Update};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use super::seen::{Optimizers, Sightings, number};
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

pub(crate) static RULE: Rule = Rule {
    name: "loop/evaluation",
    says: "an evaluation leaves parameters and the random stream to training, and runs in evaluation mode",
    verifies: "The first training forward after an evaluation uses the parameters that the last update left. The global \
               random generator is not set to the same seed at evaluations, again and again. An evaluation of held-out \
               batches is not in training mode.",
    does_not_verify: "Which samples are evaluated, and the metric. Parameters that the loop changes by itself after an \
                      evaluation. Random numbers that an evaluation draws.",
    kind: Kind::Trace(|opening| Box::new(Evaluations::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Evaluation,
    needs: &[Fact::Observed],
};

struct Evaluations {
    optimizers: Optimizers,
    updates: u64,
    /// The last update with the seeds set after it, by seed. The first update's are those of the start.
    seeds: BTreeMap<u64, Sightings>,
    /// Evaluations of held-out batches or with losses, and those of them in training mode.
    with_losses: u64,
    in_training: Sightings,
    /// The step of the last update before an evaluation.
    evaluated_at: u64,
}

impl Evaluations {
    fn new(opening: &Opening) -> Self {
        Self {
            optimizers: Optimizers::of(opening),
            updates: 0,
            seeds: BTreeMap::new(),
            with_losses: 0,
            in_training: Sightings::default(),
            evaluated_at: 0,
        }
    }

    fn update(&mut self, it: &Update, line: &Line, sheet: &mut Sheet) {
        self.updates += 1;
        let Some(since) = it.since.as_deref() else { return sheet.missing("since of an update") };
        // One optimizer tells of all seeds; several would tell of each again. Without an evaluation, another training of the
        // same process begins.
        if self.updates > 1 && number(it) == 0 && since.evaluations > 0 {
            for &seed in &since.seeds {
                self.seeds.entry(seed).or_default().add(line);
            }
        }
        let Some(changed) = since.parameters_changed else {
            if since.evaluations > 0 {
                sheet.cannot("whether evaluations leave the parameters alone: the recorder could not tell");
            }
            return;
        };
        // A schedule-free optimizer's train() computes the weights of training anew, up to rounding. To load the best
        // state so far is meant.
        if self.optimizers.is(number(it), "ScheduleFree")
            || since.loaded
            || (changed && since.swapped == Some(false))
        {
            return sheet
                .cannot("whether evaluations leave the parameters alone: the loop changes them by itself");
        }
        let step = self.evaluated_at;
        sheet.check(!changed, line, || Difference {
            expected: format!("training to go on with the parameters that update {step} left"),
            actual: "other parameters at the first training forward after the evaluation".into(),
            component: Component::Evaluation,
            cause: format!(
                "the evaluation after update {step} leaves other parameters than it found: averaged (EMA) weights were not \
                 taken out again, or the evaluation trains"
            ),
        });
    }

    fn evaluation(&mut self, it: &Evaluation, line: &Line) {
        self.evaluated_at = it.step;
        let Some(modes) = it.modes.filter(|modes| modes.all() > 0 && is_evaluation(it)) else { return };
        self.with_losses += 1;
        if modes.evaluation == 0 {
            self.in_training.add(line);
        }
    }

    fn modes(&self, sheet: &mut Sheet) {
        sheet.compared += self.with_losses - self.in_training.times;
        // A loop that looks at losses before most updates, without gradients, chooses by them what to train.
        let is_rare = self.with_losses.saturating_mul(2) <= self.updates;
        let all = self.in_training.times == self.with_losses;
        let Some(line) = self.in_training.first.as_ref().filter(|_| is_rare && all) else { return };
        sheet.check(false, line, || Difference {
            expected: "the evaluation in evaluation mode".into(),
            actual: format!("dropout and batch norms in training mode, in all {} evaluations", self.with_losses),
            component: Component::Evaluation,
            cause: "model.eval() is not called before the evaluation: dropout is active, and batch norms learn from the \
                    evaluated samples".into(),
        });
    }
}

/// A forward without gradients may also be a teacher's, or a rollout.
fn is_evaluation(it: &Evaluation) -> bool {
    it.apart == Some(true) || !it.losses.is_empty()
}

impl TraceRule for Evaluations {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        match &line.event {
            Event::Update(it) => self.update(it, line, sheet),
            Event::Evaluation(it) => self.evaluation(it, line),
            _ => {}
        }
    }

    fn finish(&mut self, _last: &Line, sheet: &mut Sheet) {
        for (seed, sightings) in &self.seeds {
            let Some(line) = sightings.at_least(2) else { continue };
            sheet.check(false, line, || Difference {
                expected: "one random stream for the whole run".into(),
                actual: format!("the seed {seed} set {} times after the first update", sightings.times),
                component: Component::Seeding,
                cause: format!(
                    "the global random generator is set back to the seed {seed} again and again: dropout, noise and shuffles \
                     repeat from there on. What wants a fixed seed, as an evaluation or a data set may, needs a generator \
                     of its own"
                ),
            });
        }
        self.modes(sheet);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use traintrue_protocol::trace::since::{Modes, Since};

    use super::*;
    use crate::invariants::recorded::testing::*;
    use crate::testing::{breaks, judge, position};

    /// A loop that evaluates at the end of each epoch, and then what `change` says of the next update.
    fn evaluated(change: fn(&mut Since)) -> Vec<Event> {
        of_updates(|it| change(since(it)))
    }

    fn of_updates(change: impl Fn(&mut Update)) -> Vec<Event> {
        let mut events = clean(Shape::default());
        for step in [3, 6] {
            let at = position(&events, |event| matches!(event, Event::Update(it) if it.step == step));
            events.insert(at + 1, evaluation(step));
        }
        for it in updates(&mut events).filter(|it| [4, 7].contains(&it.step)) {
            (since(it).evaluations, since(it).parameters_changed) = (1, Some(false));
            change(it);
        }
        events
    }

    fn in_training(mut events: Vec<Event>) -> Vec<Event> {
        for event in &mut events {
            if let Event::Evaluation(it) = event {
                it.modes = Some(Modes { training: 3, evaluation: 0, model: Some(true), drifting: None });
            }
        }
        events
    }

    fn without_losses(mut events: Vec<Event>) -> Vec<Event> {
        for event in &mut events {
            if let Event::Evaluation(it) = event {
                it.losses.clear();
            }
        }
        events
    }

    #[rstest]
    #[case::nothing_changed(evaluated(|_| ()))]
    #[case::best_state_put_back(evaluated(|it| (it.parameters_changed, it.loaded) = (Some(true), true)))]
    #[case::pruned_after_it(evaluated(|it| (it.parameters_changed, it.swapped) = (Some(true), Some(false))))]
    #[case::a_seed_per_epoch(of_updates(|it| since(it).seeds = vec![it.step]))]
    #[case::seeded_where_another_training_begins(of_updates(|it| {
        (since(it).seeds, since(it).evaluations) = (vec![42], 0)
    }))]
    #[case::pictures_in_training_mode(without_losses(in_training(evaluated(|_| ()))))]
    fn what_right_loops_do_is_no_accusation(#[case] events: Vec<Event>) {
        let sheet = judge(RULE.name, &events);
        assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
    }

    #[rstest]
    #[case::averaged(evaluated(|it| it.parameters_changed = Some(true)), "evaluation", "the evaluation after update 3")]
    #[case::seeded(evaluated(|it| it.seeds = vec![42]), "seeding", "set back to the seed 42")]
    #[case::mode(in_training(evaluated(|_| ())), "evaluation", "model.eval() is not called")]
    fn an_evaluation_that_reaches_training_breaks(
        #[case] events: Vec<Event>,
        #[case] component: &str,
        #[case] cause: &str,
    ) {
        let found = breaks(judge(RULE.name, &events), component);
        assert!(found.contains(cause), "{found}");
    }
}
