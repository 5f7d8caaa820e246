//! `loop/average`: an average of the weights (EMA) moves once per update.

use traintrue_protocol::trace::event::{End, Evaluation, Update};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use super::seen::{Sightings, most};
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule, TraceRule};

pub(crate) static RULE: Rule = Rule {
    name: "loop/average",
    says: "an average of the weights moves once per update: not once per micro-batch, and not never",
    verifies: "In accumulation windows of several micro-batches, a copy of the model, or tensors by its parameters' \
               names, that no optimizer holds does not change between the micro-batches of a window. A copy that is \
               evaluated in the model's place, and weights that are swapped in for evaluations, are others after other \
               updates.",
    does_not_verify: "The decay of the average. That one moves which nobody evaluates. Averages that are made after training has begun, or under other names. \
                      That the average is saved and restored (`traintrue cut` compares it).",
    kind: Kind::Trace(|_| Box::new(Average::default())),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::State,
    needs: &[Fact::Observed],
};

#[derive(Default)]
struct Average {
    windows: u64,
    within: Sightings,
    /// Of the first such window: its moves and its micro-batches.
    first: Option<(u64, u64)>,
    evaluated: Evaluated,
}

/// The weights that evaluations ran on.
#[derive(Default)]
struct Evaluated {
    /// The first digest, and the update after which it was seen last.
    first: Option<(String, u64)>,
    /// Evaluations after another update than the one before, on the weights of the first one.
    same: Sightings,
    differ: bool,
    /// Whether some were not the weights that training left.
    swapped: bool,
}

impl Evaluated {
    fn see(&mut self, it: &Evaluation, line: &Line) {
        let Some(digest) = &it.digest_before else { return };
        match &mut self.first {
            None => self.first = Some((digest.clone(), it.step)),
            Some((first, _)) if first != digest => self.differ = true,
            Some((_, step)) if *step != it.step => {
                *step = it.step;
                self.same.add(line);
            }
            Some(_) => {}
        }
    }
}

impl Average {
    fn update(&mut self, it: &Update, line: &Line) {
        self.evaluated.swapped |= it.since.as_ref().is_some_and(|since| since.swapped == Some(true));
        let moves = it.since.as_ref().and_then(|since| Some((since.averaged?, since.micro_batches)));
        let Some((moves, micro_batches)) = moves.filter(|(_, micro_batches)| *micro_batches > 1) else {
            return;
        };
        self.windows += 1;
        if moves > 0 {
            self.within.add(line);
            self.first.get_or_insert((moves, micro_batches));
        }
    }
}

impl Average {
    /// Averages that are evaluated and never move.
    fn never(&self, last: &Line, sheet: &mut Sheet) {
        let Evaluated { same, differ, swapped, .. } = &self.evaluated;
        let mut check = |line: &Line, what: &str, times: u64| {
            sheet.check(false, line, || Difference {
                expected: "an average of the weights that moves with them".into(),
                actual: format!("the same values in evaluations after {times} updates"),
                component: Component::Averages,
                cause: format!("{what} never change: check that the average is updated after optimizer.step(), and from the \
                                model that trains"),
            });
        };
        if let Event::End(End { unmoved: Some(times), .. }) = &last.event {
            check(last, "the weights of the copy that is evaluated", *times);
        }
        if let Some(line) = same.at_least(1).filter(|_| *swapped && !differ) {
            check(line, "the weights that are swapped in for evaluations", same.times + 1);
        }
    }
}

impl TraceRule for Average {
    fn see(&mut self, line: &Line, _sheet: &mut Sheet) {
        match &line.event {
            Event::Update(it) => self.update(it, line),
            Event::Evaluation(it) => self.evaluated.see(it, line),
            _ => {}
        }
    }

    fn finish(&mut self, last: &Line, sheet: &mut Sheet) {
        self.never(last, sheet);
        sheet.compared += self.windows - self.within.times;
        let (Some(line), Some((moves, micro_batches))) = (self.within.at_least(2), self.first) else {
            return;
        };
        if !most(self.within.times, self.windows) {
            return;
        }
        sheet.check(false, line, || Difference {
            expected: "an average of the weights that moves once per update".into(),
            actual: format!("{moves} moves between the {micro_batches} micro-batches of a window, in {} of {} windows", self.within.times, self.windows),
            component: Component::Averages,
            cause: format!(
                "the average is updated at every micro-batch and not after optimizer.step(): its decay acts {micro_batches} \
                 times per update"
            ),
        });
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::invariants::recorded::testing::*;
    use crate::testing::{breaks, judge};

    fn averaged(moves: fn(&Update) -> u64) -> Vec<Event> {
        let mut events = clean(Shape::default());
        updates(&mut events).for_each(|it| since(it).averaged = Some(moves(it)));
        events
    }

    #[test]
    fn once_per_update_holds_and_once_per_micro_batch_breaks() {
        let sheet = judge(RULE.name, &averaged(|_| 0));
        assert!(sheet.broken.is_none() && sheet.compared > 0, "{sheet:?}");
        let found = breaks(judge(RULE.name, &averaged(|it| it.micro_batches.unwrap() - 1)), "averages");
        assert!(found.contains("its decay acts 4 times per update"), "{found}");
    }

    /// Evaluations after each update, on these weights, and swapped in or not.
    fn evaluated(weights: fn(u64) -> u64, swapped: bool) -> Vec<Event> {
        let mut events = averaged(|_| 0);
        updates(&mut events).for_each(|it| since(it).swapped = Some(swapped));
        let steps: Vec<(usize, u64)> = events
            .iter()
            .enumerate()
            .filter_map(|(at, event)| if let Event::Update(it) = event { Some((at, it.step)) } else { None })
            .collect();
        for (at, step) in steps.into_iter().rev() {
            let digest_before = Some(weights(step).to_string());
            let evaluation = Evaluation { step, digest_before, ..Default::default() };
            events.insert(at + 1, Event::Evaluation(evaluation));
        }
        events
    }

    #[rstest]
    #[case::they_move(evaluated(|step| step, true))]
    #[case::one_evaluation_of_the_best(evaluated(|step| step.max(2), true))]
    #[case::training_itself_stands_still(evaluated(|_| 1, false))]
    fn averages_that_move_hold(#[case] events: Vec<Event>) {
        let sheet = judge(RULE.name, &events);
        assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
    }

    #[test]
    fn averages_that_never_move_break() {
        let found = breaks(judge(RULE.name, &evaluated(|_| 1, true)), "averages");
        assert!(found.contains("swapped in for evaluations never change"), "{found}");
        let mut events = averaged(|_| 0);
        if let Some(Event::End(end)) = events.last_mut() {
            end.unmoved = Some(3);
        }
        let found = breaks(judge(RULE.name, &events), "averages");
        assert!(found.contains("the copy that is evaluated never change"), "{found}");
    }

    #[test]
    fn a_copy_that_is_made_anew_now_and_then_is_no_average() {
        let sheet = judge(RULE.name, &averaged(|it| u64::from(it.step % 3 == 0)));
        assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
    }
}
