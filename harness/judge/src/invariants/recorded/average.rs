//! `loop/average`: an average of the weights (EMA) moves once per update.

use traintrue_protocol::trace::event::Update;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use super::seen::{Sightings, most};
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule, TraceRule};

pub(crate) static RULE: Rule = Rule {
    name: "loop/average",
    says: "an average of the weights moves once per update, and not once per micro-batch",
    verifies: "In accumulation windows of several micro-batches, a copy of the model, or tensors by its parameters' \
               names, that no optimizer holds does not change between the micro-batches of a window.",
    does_not_verify: "The decay of the average. Averages that are made after training has begun, or under other names. \
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
}

impl Average {
    fn update(&mut self, it: &Update, line: &Line) {
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

impl TraceRule for Average {
    fn see(&mut self, line: &Line, _sheet: &mut Sheet) {
        if let Event::Update(it) = &line.event {
            self.update(it, line);
        }
    }

    fn finish(&mut self, _last: &Line, sheet: &mut Sheet) {
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

    #[test]
    fn a_copy_that_is_made_anew_now_and_then_is_no_average() {
        let sheet = judge(RULE.name, &averaged(|it| u64::from(it.step % 3 == 0)));
        assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
    }
}
