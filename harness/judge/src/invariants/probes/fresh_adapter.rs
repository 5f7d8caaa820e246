//! `adapter/adds-nothing-at-start`: a model with a fresh adapter is the model without it.

use traintrue_protocol::trace::TraceError;
use traintrue_protocol::trace::event::TensorState;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::vocabulary::Component;

use super::rows::{self, Tolerance};
use super::start::Start;
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

/// Training begins at the base model.
pub(crate) static RULE: Rule = Rule {
    name: "adapter/adds-nothing-at-start",
    says: "a model with a fresh adapter gives the outputs of the model without it",
    verifies: "Two runs have the same base parameters at the start, and one of them has adapters. Their probes of one name, \
               made before the first micro-batch, have the same loss and logits in every row, within the rounding bound.",
    does_not_verify: "Adapters that take their first values out of the base, such as PiSSA: the base parameters then differ, and \
                      nothing is compared. That the adapter learns (state/gets-gradient).",
    kind: Kind::Pair(judge),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Probes,
    needs: &[Fact::Plan],
};

fn judge(run: &RunEvidence, against: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    let Some((run, against)) = Start::of_both(run, against, sheet)? else { return Ok(()) };
    let adapters = |start: &Start| start.tensors.iter().filter(|it| it.group == "adapter").count();
    if (adapters(&run) == 0) == (adapters(&against) == 0) {
        sheet.missing("a run with adapters, and one without");
        return Ok(());
    }
    let adapted = if adapters(&run) > 0 { &run } else { &against };
    let before = sheet.compared;
    for (line, probe, other) in run.shared(&against) {
        let Some(bound) = sheet.comparable(run.bound(probe, other)) else { return Ok(()) };
        if let Some(differs) = rows::differ(other, probe, Tolerance::Relative(bound), sheet) {
            sheet.check(false, line, || Difference {
                expected: format!("{}, as without the adapter", differs.expected),
                actual: differs.actual,
                component: Component::Adapters,
                cause: cause(&adapted.tensors),
            });
        }
    }
    if sheet.compared == before {
        sheet.missing("probe at start");
    }
    Ok(())
}

/// What the tensors of the adapter say.
fn cause(tensors: &[TensorState]) -> String {
    let adapter: Vec<&TensorState> = tensors.iter().filter(|it| it.group == "adapter").collect();
    let is_zero = |it: &&&TensorState| !it.sketch.is_empty() && it.sketch.iter().all(|value| value.0 == 0.0);
    let zero = adapter.iter().filter(is_zero).count();
    let (all, told) = (adapter.len(), adapter.iter().all(|it| !it.sketch.is_empty()));
    if told && 2 * zero < all {
        format!(
            "{zero} of the adapter's {all} tensors are zero, and one of the two matrices of each adapter should be: training \
             starts from a model that has been changed at random"
        )
    } else {
        "the adapter is zero, and the model with it computes otherwise: check what wrapping does to the layer, its scale and its \
         number format"
            .into()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use traintrue_protocol::number::Number;
    use traintrue_protocol::trace::Event;
    use traintrue_protocol::vocabulary::Moment;

    use super::*;
    use crate::invariants::probes::start::start_probe;
    use crate::testing::*;

    /// A run whose last tensor is of an adapter with these sketches.
    fn adapted(sketch: f64) -> Vec<Event> {
        let mut events = whole();
        let tensors = &mut state_at(&mut events, Moment::Start).tensors;
        let mut tensor = tensors[0].clone();
        (tensor.name, tensor.group) = ("q.lora_b".into(), "adapter".into());
        tensor.sketch = vec![Number(sketch); 2];
        tensors.push(tensor);
        events
    }

    /// A run without adapters.
    fn plain() -> Vec<Event> {
        let mut events = whole();
        state_at(&mut events, Moment::Start).tensors.retain(|it| it.group != "adapter");
        events
    }

    #[test]
    fn an_adapter_that_adds_nothing_holds_whichever_run_has_it() {
        holds(&judge_runs(RULE.name, &[adapted(0.0)], &[plain()]));
        holds(&judge_runs(RULE.name, &[plain()], &[adapted(0.0)]));
    }

    #[test]
    fn outputs_that_an_adapter_changes_break() {
        let mut events = adapted(0.1);
        state_at(&mut events, Moment::Start).tensors.iter_mut().for_each(|it| it.sketch = vec![Number(0.1)]);
        start_probe(&mut events).rows[1].logits[1] = Number(1.6);
        let found = breaks(judge_runs(RULE.name, &[events], &[plain()]), "adapters");
        assert!(found.contains("0 of the adapter's"), "{found}");
    }

    #[rstest]
    #[case::neither(plain(), "a run with adapters, and one without")]
    #[case::without_probes(adapted(0.0).into_iter().filter(|it| !matches!(it, Event::Probe(_))).collect(), "probe at start")]
    fn where_nothing_can_be_compared_it_is_not_judged(#[case] events: Vec<Event>, #[case] why: &str) {
        let sheet = judge_runs(RULE.name, &[events], &[plain()]);
        assert!(sheet.broken.is_none(), "{sheet:?}");
        assert!(sheet.missing.as_deref().is_some_and(|found| found.contains(why)), "{sheet:?}");
    }
}
