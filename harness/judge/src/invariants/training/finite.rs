//! `finite/everywhere`: no loss, gradient, parameter or output is NaN or infinite.

use traintrue_protocol::number::Number;
use traintrue_protocol::trace::event::{Loss, MicroBatch, Probe, State, Update};
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

pub(crate) static RULE: Rule = Rule {
    name: "finite/everywhere",
    says: "every loss, gradient, parameter and output is a finite number",
    verifies: "Loss sums and weights of micro-batches and evaluations, gradient norms of updates that were applied, \
               gradient norms and sketches of states, and every output and gradient of a probe, padding included.",
    does_not_verify: "Values that are not finite only between two states. Updates that the trainer itself skipped. In \
                      recorded loops, losses that are not finite and that no update uses.",
    kind: Kind::Trace(|opening| Box::new(Finite::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Finite,
    needs: &[],
};

const FORWARD: &str = "the forward pass of this micro-batch gives a loss that is not finite";

struct Finite {
    /// Whether the last update was not applied: its gradients may have overflowed.
    skipped: bool,
    /// A recorded loop may look at a loss, and leave its micro-batch out.
    recorded: bool,
    /// The first micro-batch of a recorded loop since the last update whose loss is not finite.
    pending: Option<Line>,
    left_out: u64,
}

impl Finite {
    fn new(opening: &Opening) -> Self {
        Self { skipped: false, recorded: opening.recorded.is_some(), pending: None, left_out: 0 }
    }

    fn micro_batch(&mut self, it: &MicroBatch, line: &Line, sheet: &mut Sheet) {
        let finite = it.losses.iter().all(|loss| loss.sum.is_finite() && loss.weight.is_finite());
        if self.recorded && !finite {
            self.pending.get_or_insert_with(|| line.clone());
        } else {
            Look { line, sheet }.losses(&it.losses, FORWARD);
        }
    }

    fn update(&mut self, it: &Update, line: &Line, sheet: &mut Sheet) {
        self.skipped = !it.applied;
        if let Some(pending) = self.pending.take() {
            self.settle(it, &pending, sheet);
        }
        let norms = [it.grad_norm, it.clipped_norm].into_iter().flatten();
        for norm in norms.filter(|_| it.applied) {
            Look { line, sheet }.number(
                norm,
                || "the norm of the gradients".into(),
                "the optimizer step was applied with gradients that are not finite",
            );
        }
    }

    /// Whether an update used the micro-batch whose loss is not finite. If its gradients are finite, it did not.
    fn settle(&mut self, it: &Update, pending: &Line, sheet: &mut Sheet) {
        match &pending.event {
            Event::MicroBatch(batch) if it.applied && !it.grad_norm.is_some_and(Number::is_finite) => {
                Look { line: pending, sheet }.losses(&batch.losses, FORWARD);
            }
            _ => self.left_out += 1,
        }
    }
}

/// One line of the trace, and where its comparisons are counted.
struct Look<'a> {
    line: &'a Line,
    sheet: &'a mut Sheet,
}

impl Look<'_> {
    fn number(&mut self, value: Number, what: impl FnOnce() -> String, cause: &str) {
        self.sheet.check(value.is_finite(), self.line, || Difference {
            expected: "a finite number".into(),
            actual: format!("{value} in {}", what()),
            component: Component::Numerics,
            cause: cause.to_owned(),
        });
    }

    fn losses(&mut self, losses: &[Loss], cause: &str) {
        for loss in losses {
            self.number(loss.sum, || format!("the sum of loss {}", loss.name), cause);
            self.number(loss.weight, || format!("the weight of loss {}", loss.name), cause);
        }
    }

    fn state(&mut self, it: &State, applied: bool) {
        for tensor in &it.tensors {
            let name = &tensor.name;
            if let Some(norm) = tensor.grad_norm.filter(|_| applied) {
                self.number(
                    norm,
                    || format!("the gradient of {name}"),
                    "the backward pass gives a gradient that is not finite",
                );
            }
            for &value in &tensor.sketch {
                self.number(
                    value,
                    || name.clone(),
                    "the parameter holds NaN or infinity: check the last update and what it loaded",
                );
            }
        }
    }

    fn probe(&mut self, it: &Probe) {
        for (index, row) in it.rows.iter().enumerate() {
            let cause = "the forward pass divides 0 by 0 or overflows for this row";
            self.number(row.loss, || format!("the loss of row {index} of {}", it.name), cause);
            for &value in &row.logits {
                self.number(value, || format!("the logits of row {index} of {}", it.name), cause);
            }
            for &value in &row.head {
                self.number(value, || format!("the head of row {index} of {}", it.name), cause);
            }
            self.sheet.check(row.nonfinite == 0, self.line, || Difference {
                expected: "0 non-finite values".into(),
                actual: format!("{} in row {index} of {}", row.nonfinite, it.name),
                component: Component::Numerics,
                cause: "the forward pass divides 0 by 0 or overflows at positions that the loss does not use"
                    .into(),
            });
        }
        for gradient in &it.gradients {
            let what = || format!("the gradient of {} in {}", gradient.name, it.name);
            let cause = "the backward pass gives a gradient that is not finite for this batch";
            self.number(gradient.norm, what, cause);
            for &value in &gradient.sketch {
                self.number(value, what, cause);
            }
        }
    }
}

impl TraceRule for Finite {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        let mut look = Look { line, sheet };
        match &line.event {
            Event::MicroBatch(it) => self.micro_batch(it, line, sheet),
            Event::Evaluation(it) => {
                look.losses(&it.losses, "the forward pass of this evaluation gives a loss that is not finite")
            }
            Event::Update(it) => self.update(it, line, sheet),
            Event::State(it) => look.state(it, !self.skipped),
            Event::Probe(it) => look.probe(it),
            _ => {}
        }
    }

    fn finish(&mut self, _last: &Line, sheet: &mut Sheet) {
        if self.left_out > 0 {
            sheet.remark(format!(
                "losses that are not finite before {} updates, whose own gradients are finite",
                self.left_out
            ));
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use traintrue_protocol::vocabulary::Moment;

    use super::*;
    use crate::testing::*;

    fn probe(events: &mut [Event]) -> &mut Probe {
        let found =
            events.iter_mut().find_map(|event| if let Event::Probe(it) = event { Some(it) } else { None });
        found.expect("the trace has a probe")
    }

    #[test]
    fn a_healthy_trace_holds() {
        holds(&judge(RULE.name, &whole()));
    }

    #[rstest]
    #[case::loss(|events: &mut Vec<Event>| batch_at(events, 1, 2).losses[0].sum = Number(f64::NAN))]
    #[case::norm(|events: &mut Vec<Event>| update_at(events, 2).grad_norm = Some(Number(f64::INFINITY)))]
    #[case::parameter(|events: &mut Vec<Event>| state_at(events, Moment::Update).tensors[1].sketch[0] = Number(f64::NAN))]
    #[case::head(|events: &mut Vec<Event>| probe(events).rows[0].head[0] = Number(f64::NAN))]
    #[case::hidden(|events: &mut Vec<Event>| probe(events).rows[0].nonfinite = 2)]
    #[case::gradient(|events: &mut Vec<Event>| probe(events).gradients[0].norm = Number(f64::NAN))]
    fn a_lost_number_breaks(#[case] change: fn(&mut Vec<Event>)) {
        let mut events = whole();
        change(&mut events);
        breaks(judge(RULE.name, &events), "numerics");
    }

    #[test]
    fn a_step_that_was_skipped_may_have_overflowed() {
        let mut events = whole();
        let update = update_at(&mut events, 2);
        (update.applied, update.grad_norm) = (false, Some(Number(f64::INFINITY)));
        let after = events.iter_mut().skip_while(|event| !matches!(event, Event::Update(it) if it.step == 2));
        for event in after {
            if let Event::State(it) = event {
                it.tensors.iter_mut().for_each(|tensor| tensor.grad_norm = Some(Number(f64::NAN)));
                break;
            }
        }
        holds(&judge(RULE.name, &events));
    }
}
