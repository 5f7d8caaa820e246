//! `evaluation/changes-nothing`: an evaluation changes neither the parameters nor the random stream, and runs without
//! dropout.

use traintrue_protocol::trace::event::Evaluation;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule, TraceRule};

pub(crate) static RULE: Rule = Rule {
    name: "evaluation/changes-nothing",
    says: "an evaluation changes no parameter, draws no random number and runs without dropout",
    verifies: "The digests of the parameters and of the random stream are equal before and after each evaluation, and \
               the number of dropped units is 0.",
    does_not_verify: "That training continues as without the evaluation, with dropout on again \
                      (purity/same-trajectory).",
    kind: Kind::Trace(|_| Box::new(Pure)),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Evaluation,
    needs: &[Fact::Plan],
};

struct Pure;

fn unchanged(before: &Option<String>, after: &Option<String>, what: &str, line: &Line, sheet: &mut Sheet) {
    let (Some(before), Some(after)) = (before, after) else {
        return sheet.missing(&format!("{what} digest around an evaluation"));
    };
    sheet.check(before == after, line, || Difference {
        expected: format!("{what} unchanged: {before}"),
        actual: after.clone(),
        component: Component::Evaluation,
        cause: format!("the evaluation changed the {what}, and training continues with the change"),
    });
}

fn evaluation(it: &Evaluation, line: &Line, sheet: &mut Sheet) {
    unchanged(&it.digest_before, &it.digest_after, "parameters", line, sheet);
    unchanged(&it.rng_before, &it.rng_after, "random stream", line, sheet);
    let Some(dropped) = it.dropped else {
        return sheet.missing("dropped units of an evaluation");
    };
    sheet.check(dropped == 0, line, || Difference {
        expected: "0 units dropped".into(),
        actual: dropped.to_string(),
        component: Component::Evaluation,
        cause: "dropout is active during the evaluation: check that model.eval() is called".into(),
    });
}

impl TraceRule for Pure {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        if let Event::Evaluation(it) = &line.event {
            evaluation(it, line, sheet);
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::*;

    #[test]
    fn a_healthy_trace_holds() {
        holds(&judge(RULE.name, &whole()));
    }

    #[rstest]
    #[case(|it: &mut Evaluation| it.digest_after = Some("t:other".into()))]
    #[case(|it: &mut Evaluation| it.rng_after = Some("t:other".into()))]
    #[case(|it: &mut Evaluation| it.dropped = Some(3))]
    fn an_evaluation_that_changes_something_breaks(#[case] change: fn(&mut Evaluation)) {
        let mut events = whole();
        let at = position(&events, |event| matches!(event, Event::Evaluation(_)));
        if let Event::Evaluation(it) = &mut events[at] {
            change(it);
        }
        breaks(judge(RULE.name, &events), "evaluation");
    }
}
