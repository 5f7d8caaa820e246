//! `device/backends-agree`: two backends make the same run of one plan, within rounding.

use traintrue_protocol::number::Number;
use traintrue_protocol::plan::Dtype;
use traintrue_protocol::trace::event::{Loss, Operation, State};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line, TraceError};
use traintrue_protocol::vocabulary::Component;

use crate::bound;
use crate::finding::{Difference, Sheet};
use crate::invariants::shared::steps::Step;
use crate::invariants::shared::stream::Stream;
use crate::invariants::training::partition::{Bounds, Judge};
use crate::near::near;
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

/// One plan on two backends.
pub static RULE: Rule = Rule {
    name: "device/backends-agree",
    says: "two backends make the same run of one plan, within rounding",
    verifies: "Where the plan asks for operations: each operation of the model by itself, on the same values, has the \
               same output and the same gradients. Then, update by update, the losses of the micro-batches, the \
               gradient norm of every tensor and the sketches of the parameters. All agree within bounds derived from \
               the number format, which grow with the updates. The first difference is told: the operation, where \
               there is one. Training is compared as long as rounding cannot have moved the parameters apart by 1 %: \
               from there on two correct runs part at a large rate, or with a small eps.",
    does_not_verify: "A mistake that both backends make. Operations that the trainer does not tell. Speed.",
    kind: Kind::Pair(judge),
    compares: Compares::Figures,
    judges_a_start: false,
    rank: Rank::Backend,
    needs: &[Fact::Plan],
};

/// What a function of one value, such as an exponential, may add to the rounding of a sum, in terms: WGSL allows an
/// exponential 3 + 2|x| units in the last place, and a logarithm more near 1.
const FUNCTION_TERMS: u64 = 64;

fn judge(run: &RunEvidence, against: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    operations(run, against, sheet)?;
    let Some((mut judge, mut run, mut against)) = Judge::of(run, against, sheet)? else { return Ok(()) };
    while let (Some(step), Some(other)) = (run.next()?, against.next()?) {
        judge.tensor_terms = run.tensor_terms.max(against.tensor_terms);
        let Some((norm, other_norm, bounds)) = judge.bounds(&step, &other, sheet) else { continue };
        losses(&step, &other, bounds.relative, sheet);
        let what = format!("grad_norm at update {}", step.update.step);
        compare(&step.line, &what, (norm, other_norm), bounds.gradient, sheet, || {
            later("the backward pass", "a gradient")
        });
        judge.drifts(&step, norm, &bounds);
        if let (Some((line, state)), Some((_, other))) = (&step.state, &other.state) {
            tensors(line, state, other, &judge, &bounds, sheet);
            judge.part(state, sheet);
        } else {
            sheet.missing("state after each update");
            return Ok(());
        }
    }
    let (done, done_against) = (run.ended.is_some(), against.ended.is_some());
    if let (true, Some((line, _))) = (done != done_against, run.ended.or(against.ended)) {
        sheet.check(false, &line, || Difference {
            expected: "as many updates on both backends".into(),
            actual: "more on one of them".into(),
            component: Component::Boundary,
            cause: "the run ends earlier on one backend than on the other".into(),
        });
    }
    Ok(())
}

fn operations(run: &RunEvidence, against: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    let (found, expected) = (told(run)?, told(against)?);
    if expected.is_empty() {
        sheet.missing("operation");
    }
    for (_, expected) in &expected {
        match found.iter().find(|(_, found)| found.name == expected.name) {
            Some((line, found)) => operation(line, found, expected, sheet),
            None => sheet.missing(&format!("operation {}", expected.name)),
        }
    }
    Ok(())
}

fn told(run: &RunEvidence) -> Result<Vec<(Line, Operation)>, TraceError> {
    let (mut stream, mut told) = (Stream::of(&run.segments), Vec::new());
    while let Some(line) = stream.next_where(|event| matches!(event, Event::Operation(_)))? {
        if let Event::Operation(it) = &line.event {
            told.push((line.clone(), it.clone()));
        }
    }
    Ok(told)
}

fn operation(line: &Line, found: &Operation, expected: &Operation, sheet: &mut Sheet) {
    let terms = found.terms.max(expected.terms).saturating_add(FUNCTION_TERMS);
    let Ok(relative) = bound::between(terms, Dtype::F32) else {
        return sheet.cannot(&format!("operation {}: {terms} terms have no bound", expected.name));
    };
    for expected_part in &expected.tensors {
        let Some(part) = found.tensors.iter().find(|part| part.name == expected_part.name) else {
            sheet.missing(&format!("{} of operation {}", expected_part.name, expected.name));
            continue;
        };
        let largest = part.norm.0.abs().max(expected_part.norm.0.abs());
        let cause = || {
            let cause = format!(
                "the operation {} by itself has another {} on one backend than on the other, on the same values: \
                 everything that training computes through it differs",
                expected.name, expected_part.name
            );
            (Component::Operation, cause)
        };
        let what = format!("{} of {}", expected_part.name, expected.name);
        let norms = (part.norm, expected_part.norm);
        compare(line, &format!("norm of the {what}"), norms, relative * largest, sheet, cause);
        for (found, expected) in part.sketch.iter().zip(&expected_part.sketch) {
            let bound = bound::sketch(relative * largest);
            compare(line, &format!("sketch of the {what}"), (*found, *expected), bound, sheet, cause);
        }
    }
}

fn losses(step: &Step, other: &Step, relative: f64, sheet: &mut Sheet) {
    for (found, expected) in step.losses.iter().zip(&other.losses) {
        let Loss { name, sum, weight } = found;
        let allowed = bound::of_losses(relative, sum.0, expected.sum.0, weight.0);
        let what = format!("sum of the {name} losses of a micro-batch of update {}", step.update.step);
        compare(&step.line, &what, (*sum, expected.sum), allowed, sheet, || {
            later("the forward pass", "a loss")
        });
    }
}

fn tensors(line: &Line, state: &State, other: &State, judge: &Judge, bounds: &Bounds, sheet: &mut Sheet) {
    for tensor in state.tensors.iter().filter(|tensor| tensor.trainable) {
        let Some(other) = other.tensors.iter().find(|other| other.name == tensor.name) else { continue };
        if let (Some(found), Some(expected)) = (tensor.grad_norm, other.grad_norm) {
            let what = format!("gradient norm of {} at update {}", tensor.name, state.step);
            compare(line, &what, (found, expected), bounds.gradient, sheet, || {
                later(&format!("the backward pass, at {}", tensor.name), "a gradient")
            });
        }
        let bound = judge.of_sketch(tensor, other);
        for (found, expected) in tensor.sketch.iter().zip(&other.sketch) {
            let what = format!("sketch of {} after update {}", tensor.name, state.step);
            compare(line, &what, (*found, *expected), bound, sheet, || {
                let cause = format!(
                    "the gradients of both backends agree so far, and {} does not: the optimizer computes another step \
                     on one of them",
                    tensor.name
                );
                (Component::Optimizer, cause)
            });
        }
    }
}

/// Where training parts, though no operation by itself does.
fn later(place: &str, what: &str) -> (Component, String) {
    let cause = format!(
        "the backends part in {place}: {what} differs by more than rounding, and no operation that was told by itself \
         does"
    );
    (Component::Numerics, cause)
}

fn compare(
    line: &Line,
    what: &str,
    (found, expected): (Number, Number),
    bound: f64,
    sheet: &mut Sheet,
    cause: impl FnOnce() -> (Component, String),
) {
    sheet.check(near(found, expected, bound), line, || {
        let (component, cause) = cause();
        Difference {
            expected: format!("{what} {expected} within {}", Number(bound)),
            actual: found.to_string(),
            component,
            cause,
        }
    });
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use traintrue_protocol::trace::event::OperationTensor;
    use traintrue_protocol::vocabulary::Moment;

    use super::*;
    use crate::testing::*;

    fn told(name: &str) -> Event {
        let tensor = |name: &str| OperationTensor {
            name: name.to_owned(),
            norm: Number(3.0),
            sketch: vec![Number(1.5), Number(-2.0)],
        };
        let tensors = vec![tensor("output"), tensor("gradient of x")];
        Event::Operation(Operation { name: name.to_owned(), terms: 64, tensors })
    }

    /// With an eps so large that rounding stays small.
    fn run() -> Vec<Event> {
        let mut events = whole();
        if let Event::Run(it) = &mut events[0] {
            it.plan.train.optimizer.eps = 1.0;
        }
        events.splice(1..1, [told("product"), told("gelu")]);
        events
    }

    fn operation_at(events: &mut [Event], at: usize) -> &mut Operation {
        match &mut events[at] {
            Event::Operation(it) => it,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn two_backends_that_round_differently_agree() {
        let mut events = run();
        operation_at(&mut events, 1).tensors[0].norm.0 *= 1.000_001;
        update_at(&mut events, 2).grad_norm.iter_mut().for_each(|norm| norm.0 *= 1.000_001);
        holds(&judge_runs(RULE.name, &[events], &[run()]));
    }

    #[rstest]
    #[case::output(|it: &mut Operation| it.tensors[0].norm.0 = 3.01, "gelu by itself has another output")]
    #[case::gradient(|it: &mut Operation| it.tensors[1].sketch[1].0 = -1.9, "gelu by itself has another gradient of x")]
    #[case::lost(|it: &mut Operation| it.tensors[0].norm.0 = f64::NAN, "another output")]
    fn an_operation_that_differs_is_named(#[case] change: fn(&mut Operation), #[case] cause: &str) {
        let mut events = run();
        change(operation_at(&mut events, 2));
        // What it makes of training is a consequence.
        update_at(&mut events, 1).grad_norm = Some(Number(40.0));
        let found = breaks(judge_runs(RULE.name, &[events], &[run()]), "operation");
        assert!(found.contains(cause), "{found}");
    }

    #[rstest]
    #[case::loss(|events: &mut Vec<Event>| batch_at(events, 0, 1).losses[0].sum.0 *= 1.1, "numerics", "the forward pass")]
    #[case::gradients(|events: &mut Vec<Event>| update_at(events, 2).grad_norm = Some(Number(40.0)), "numerics", "the backward pass")]
    #[case::one_gradient(|events: &mut Vec<Event>| {
        state_at(events, Moment::Update).tensors[2].grad_norm = Some(Number(0.9));
    }, "numerics", "the backward pass, at")]
    #[case::parameters(|events: &mut Vec<Event>| {
        state_at(events, Moment::Update).tensors[2].sketch[1] = Number(1.0);
    }, "optimizer", "the optimizer computes another step")]
    fn training_that_parts_later_is_told_by_its_place(
        #[case] change: fn(&mut Vec<Event>),
        #[case] component: &str,
        #[case] cause: &str,
    ) {
        let mut events = run();
        change(&mut events);
        let found = breaks(judge_runs(RULE.name, &[events], &[run()]), component);
        assert!(found.contains(cause), "{found}");
    }

    #[test]
    fn an_operation_that_one_backend_does_not_tell_is_not_judged() {
        let mut events = run();
        events.remove(2);
        let sheet = judge_runs(RULE.name, &[events], &[run()]);
        assert!(sheet.broken.is_none() && sheet.missing.is_some_and(|why| why.contains("operation gelu")));
    }

    #[test]
    fn at_a_rate_at_which_rounding_grows_training_is_compared_no_longer() {
        let wild = |mut events: Vec<Event>| {
            for event in &mut events {
                match event {
                    Event::Update(it) => it.lr = vec![Number(0.3)],
                    Event::Run(it) => it.plan.train.optimizer.eps = 1e-8,
                    _ => {}
                }
            }
            events
        };
        let mut events = wild(run());
        update_at(&mut events, 3).grad_norm = Some(Number(9.0));
        let sheet = judge_runs(RULE.name, &[events], &[wild(run())]);
        assert!(sheet.broken.is_none() && sheet.compared > 0, "{sheet:?}");
        assert!(sheet.missing.is_some_and(|why| why.contains("by more than 1 %")));
    }
}
