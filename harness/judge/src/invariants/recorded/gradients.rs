//! `loop/gradients`: every tensor that trains receives gradients, and no update is made of lost ones or of none.

use traintrue_protocol::trace::event::{End, MicroBatch, Update};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use super::seen::{Optimizers, Sightings, is_done};
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

/// Fewer updates do not show that gradients never come.
const LEAST: u64 = 3;
/// Nor do fewer than this, where only some inputs reach a tensor.
const MANY: u64 = 10;
/// Parts of the names of adapters, all of which every input reaches.
const ADAPTERS: [&str; 2] = ["lora_", "adapter"];
/// Of experts, a short run may route to few.
const ROUTED: &str = "expert";

pub(crate) static RULE: Rule = Rule {
    name: "loop/gradients",
    says: "tensors that train receive gradients, of micro-batches with targets, and none that is lost stays in them",
    verifies: "Of the trainable tensors that an optimizer holds, not half or more, and no adapter, are without any \
               gradient to the end of the run. No update is made of micro-batches all of whose targets are left out. \
               Gradients that are not finite are cleared when their update is skipped.",
    does_not_verify: "Optimizers that keep gradients elsewhere than in `grad`. A few tensors without a gradient, which \
                      are only noted: models have parts that a task does not use. Targets that no loss function of torch \
                      leaves out by a value.",
    kind: Kind::Trace(|opening| Box::new(Gradients::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::State,
    needs: &[Fact::Observed],
};

struct Gradients {
    optimizers: Optimizers,
    updates: u64,
    /// Micro-batches of the open window, and those of them without a target.
    window: (u64, u64),
    /// Updates of micro-batches whose targets are counted, and those without any.
    counted: u64,
    targetless: Sightings,
}

impl Gradients {
    fn new(opening: &Opening) -> Self {
        Self {
            optimizers: Optimizers::of(opening),
            updates: 0,
            window: (0, 0),
            counted: 0,
            targetless: Sightings::default(),
        }
    }

    fn micro_batch(&mut self, it: &MicroBatch) {
        self.window.0 += 1;
        // The batch may have another loss than that of its labels.
        let has_loss = it.backward.is_some_and(|value| value.is_finite() && value.0 != 0.0);
        self.window.1 += u64::from(it.targets == Some(0) && !has_loss);
        self.counted += u64::from(it.targets.is_some());
    }

    fn update(&mut self, it: &Update, line: &Line) {
        let (all, without) = std::mem::take(&mut self.window);
        self.updates += 1;
        if it.applied && all > 0 && without == all {
            self.targetless.add(line);
        }
    }

    fn targets(&self, sheet: &mut Sheet) {
        sheet.compared += self.counted;
        let Some(line) = self.targetless.at_least(1) else { return };
        sheet.check(false, line, || Difference {
            expected: "an update of micro-batches with at least one target".into(),
            actual: format!("no target in {} of {} updates", self.targetless.times, self.updates),
            component: Component::Labels,
            cause: "all labels of these micro-batches are left out (-100): there is nothing to learn, a mean over them \
                    is 0/0, and the optimizer moves the parameters by its momentum and decay all the same"
                .into(),
        });
    }

    fn silent(&self, end: &End, last: &Line, sheet: &mut Sheet) {
        let Some(silent) = &end.silent else {
            sheet.compared += u64::from(self.updates > 0);
            return;
        };
        let (count, of) = (silent.count, silent.of);
        // None at all is loop/optimizer's: the optimizer holds another model's parameters, or keeps gradients elsewhere.
        if count == of || self.optimizers.with_own_gradients().is_some() {
            return;
        }
        let has = |name: &String, parts: &[&str]| parts.iter().any(|part| name.to_lowercase().contains(part));
        let adapters = silent.names.iter().any(|name| has(name, &ADAPTERS)) && self.updates >= LEAST;
        let routed = silent.names.iter().any(|name| has(name, &[ROUTED]));
        let many = count * 2 >= of && self.updates >= MANY && !routed;
        let names = silent.names.join(", ");
        if !adapters && !many {
            return sheet
                .remark(format!("{count} of {of} trainable tensors never received a gradient: {names}"));
        }
        sheet.check(false, last, || Difference {
            expected: format!("gradients for all {of} trainable tensors"),
            actual: format!("none for {count} in {} updates: {names}", self.updates),
            component: Component::OptimizerGroups,
            cause: format!(
                "{count} of {of} trainable tensors never received a gradient: they are computed under no_grad or detached, \
                 the loss does not use them, or reentrant checkpointing has no input that needs a gradient"
            ),
        });
    }

    fn stuck(&self, end: &End, last: &Line, sheet: &mut Sheet) {
        for &optimizer in &end.stuck {
            let of = self.optimizers.suffix(optimizer);
            sheet.check(false, last, || Difference {
                expected: format!("the gradients{of} cleared when an update is skipped"),
                actual: format!("NaN or infinity in them to the end of the run, after {} updates", self.updates),
                component: Component::Numerics,
                cause: "gradients that are not finite stayed after the skipped update: zero_grad() must run then, too, or \
                        every later window is lost"
                    .into(),
            });
        }
    }
}

impl TraceRule for Gradients {
    fn see(&mut self, line: &Line, _sheet: &mut Sheet) {
        match &line.event {
            Event::MicroBatch(it) => self.micro_batch(it),
            Event::Update(it) => self.update(it, line),
            _ => {}
        }
    }

    fn finish(&mut self, last: &Line, sheet: &mut Sheet) {
        if let Event::End(end) = &last.event
            && is_done(last)
        {
            self.stuck(end, last, sheet);
            self.silent(end, last, sheet);
        }
        self.targets(sheet);
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use traintrue_protocol::number::Number;
    use traintrue_protocol::trace::since::Silent;

    use super::*;
    use crate::invariants::recorded::testing::{micro_batches, *};
    use crate::testing::{breaks, judge};

    fn changed(change: fn(&mut MicroBatch)) -> Vec<Event> {
        let mut events = clean(Shape { epochs: 4, ..Shape::default() });
        micro_batches(&mut events).for_each(change);
        events
    }

    fn ends(change: fn(&mut End)) -> Vec<Event> {
        let mut events = changed(|_| ());
        if let Some(Event::End(it)) = events.last_mut() {
            change(it);
        }
        events
    }

    fn silent(count: u64, of: u64, name: &str) -> Option<Silent> {
        Some(Silent { count, of, names: vec![name.to_owned()] })
    }

    #[rstest]
    #[case::all_arrive(changed(|_| ()), 0)]
    #[case::some_without_targets(changed(|it| it.targets = Some(it.index % 2)), 0)]
    #[case::another_loss_without_targets(changed(|it| (it.targets, it.backward) = (Some(0), Some(Number(0.5)))), 0)]
    #[case::a_part_that_the_task_does_not_use(ends(|it| it.silent = silent(2, 200, "bert.pooler.weight")), 1)]
    #[case::experts(ends(|it| it.silent = silent(60, 80, "layers.0.experts.7.weight")), 1)]
    #[case::kept_elsewhere(ends(|it| it.silent = silent(8, 8, "flat")), 0)]
    fn what_right_loops_do_is_no_accusation(#[case] events: Vec<Event>, #[case] remarks: usize) {
        let sheet = judge(RULE.name, &events);
        assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
        assert_eq!(sheet.remarks.len(), remarks, "{:?}", sheet.remarks);
    }

    #[rstest]
    #[case::adapters(ends(|it| it.silent = silent(2, 9, "blocks.0.lora_B")), "optimizer-groups", "2 of 9 trainable tensors never")]
    #[case::most(ends(|it| it.silent = silent(4, 6, "down.weight")), "optimizer-groups", "4 of 6 trainable tensors never")]
    #[case::stuck(ends(|it| it.stuck = vec![0]), "numerics", "stayed after the skipped update")]
    #[case::no_targets(changed(|it| {
        it.targets = Some(u64::from(it.epoch != 1));
        it.backward = Some(Number(if it.epoch == 1 { f64::NAN } else { 1.0 }));
    }), "labels", "all labels of these micro-batches")]
    fn gradients_that_never_come_or_are_lost_break(
        #[case] events: Vec<Event>,
        #[case] component: &str,
        #[case] cause: &str,
    ) {
        let found = breaks(judge(RULE.name, &events), component);
        assert!(found.contains(cause), "{found}");
    }
}
