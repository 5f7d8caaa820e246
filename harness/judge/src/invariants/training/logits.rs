//! `loss/is-its-logits`: the loss of a micro-batch is the cross-entropy of the logits that its model gave.

use traintrue_protocol::number::Number;
use traintrue_protocol::plan::Dtype;
use traintrue_protocol::trace::event::MicroBatch;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::bound::unit_roundoff;
use crate::finding::{Difference, Sheet};
use crate::near::near;
use crate::rule::{Compares, Kind, Rank, Rule, TraceRule};

/// Roundings that each of the terms may have.
const ROUNDINGS: f64 = 32.0;

pub(crate) static RULE: Rule = Rule {
    name: "loss/is-its-logits",
    says: "the loss of a micro-batch is the cross-entropy of its logits, in nats, summed over its targets",
    verifies: "Where a trainer tells the logits of a micro-batch's rows: the language-model loss is the sum, over the \
               supervised positions, of the logarithm of the summed exponentials of all logits less the logit of the \
               target. The tolerance is 32 roundings of each term.",
    does_not_verify: "The logits themselves. That the targets are the next tokens (batch/as-planned). Losses of heads.",
    kind: Kind::Trace(|opening| Box::new(Logits::of(opening.plan.train.dtype))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Loss,
    needs: &[Fact::Plan],
};

struct Logits {
    unit: f64,
    compared: bool,
}

impl Logits {
    fn of(dtype: Dtype) -> Self {
        Self { unit: unit_roundoff(dtype), compared: false }
    }

    fn micro_batch(&mut self, it: &MicroBatch, line: &Line, sheet: &mut Sheet) {
        let supervised: usize = it.told.iter().map(|row| row.targets.iter().flatten().count()).sum();
        let told: Vec<[f64; 2]> =
            it.told.iter().flat_map(|row| &row.logits).map(|pair| pair.map(|it| it.0)).collect();
        let is_whole = it.samples.as_ref().is_some_and(|samples| samples.len() == it.told.len());
        let Some(loss) = it.losses.iter().find(|loss| loss.name == "lm") else { return };
        if told.is_empty() || !is_whole {
            return;
        }
        if told.len() != supervised {
            return sheet.cannot("some rows tell logits for other positions than the supervised ones");
        }
        self.compared = true;
        let surprise: Vec<f64> = told.iter().map(|[logit, all]| all - logit).collect();
        let expected: f64 = surprise.iter().sum();
        let size: f64 = told.iter().map(|[logit, all]| logit.abs() + all.abs() + 1.0).sum();
        let bound = ROUNDINGS * self.unit * size;
        sheet.check(near(loss.sum, Number(expected), bound), line, || Difference {
            expected: format!("loss {} within {}", Number(expected), Number(bound)),
            actual: loss.sum.to_string(),
            component: Component::Labels,
            cause: cause(loss.sum.0, &surprise, bound),
        });
    }
}

fn cause(told: f64, surprise: &[f64], bound: f64) -> String {
    let expected: f64 = surprise.iter().sum();
    let is = |other: f64| (told - other).abs() <= bound;
    if told.is_finite() != expected.is_finite() {
        return "the loss and the logits are not both finite: the first number that is lost is between them"
            .into();
    }
    if is(expected / std::f64::consts::LN_2) {
        return "the loss is in bits, and not in nats: every gradient is 1.44 times as large".into();
    }
    if is(expected / surprise.len() as f64) {
        return format!("the loss is the mean over its {} targets, where a sum is told", surprise.len());
    }
    let one = surprise.iter().position(|it| is(expected - it) && it.abs() > 4.0 * bound);
    if let Some(place) = one {
        return format!("the loss leaves out supervised position {place}, counted over the micro-batch");
    }
    let side = if told < expected { "lower" } else { "higher" };
    format!(
        "the loss is {side} than these logits and targets make it: logits that are changed on the way to it (a temperature, a \
         cap, softmax before a loss that has its own), smoothed labels, or other positions than the labels show"
    )
}

impl TraceRule for Logits {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        if let Event::MicroBatch(it) = &line.event {
            self.micro_batch(it, line, sheet);
        }
    }

    fn finish(&mut self, _last: &Line, sheet: &mut Sheet) {
        if !self.compared {
            sheet.missing("logits of a micro-batch");
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use traintrue_protocol::trace::event::Row;

    use super::*;
    use crate::testing::*;

    /// The first micro-batch, with two rows whose surprises are 2, 1 and 3.
    fn told(loss: f64) -> Vec<Event> {
        let row = |sample, logits: &[[f64; 2]]| Row {
            sample,
            ids: vec![9; 4],
            real: vec![true; 4],
            targets: (0..4).map(|at| (at < logits.len()).then_some(9)).collect(),
            logits: logits.iter().map(|pair| pair.map(Number)).collect(),
        };
        let mut events = whole();
        let it = batch_at(&mut events, 0, 0);
        it.told = vec![row(0, &[[1.0, 3.0], [0.5, 1.5]]), row(1, &[[-1.0, 2.0]])];
        it.losses[0].sum = Number(loss);
        events
    }

    #[test]
    fn the_cross_entropy_of_the_logits_holds() {
        holds(&judge(RULE.name, &told(6.0)));
    }

    #[test]
    fn a_trace_without_logits_is_not_compared() {
        assert_eq!(judge(RULE.name, &whole()).compared, 0);
    }

    #[rstest]
    #[case::bits(6.0 / std::f64::consts::LN_2, "in bits")]
    #[case::mean(2.0, "the mean over its 3 targets")]
    #[case::left_out(5.0, "leaves out supervised position 1")]
    #[case::lower(5.5, "lower than these logits")]
    #[case::higher(6.5, "higher than these logits")]
    #[case::lost(f64::NAN, "not both finite")]
    fn another_loss_says_what_it_is(#[case] loss: f64, #[case] cause: &str) {
        let found = breaks(judge(RULE.name, &told(loss)), "labels");
        assert!(found.contains(cause), "{found}");
    }
}
