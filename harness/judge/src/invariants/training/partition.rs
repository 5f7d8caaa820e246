//! `partition/same-update`: the same samples make the same update, however they are split into micro-batches.

mod coupled;
mod updates;

use traintrue_protocol::trace::TraceError;
use traintrue_protocol::trace::recorded::Fact;

pub(in crate::invariants) use self::updates::{Bounds, Judge};
use crate::finding::Sheet;
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

/// The same work in other micro-batches makes the same updates.
pub static RULE: Rule = Rule {
    name: "partition/same-update",
    says: "an update does not depend on how its samples are split into micro-batches, concatenated or recomputed",
    verifies: "Update by update, the window's samples, the number of targets and the learning rate are equal. The \
               global gradient norm, the norm of every tensor's gradient and the sketch of its values agree within \
               bounds derived from the number format. Parameters that differ by rounding give gradients that differ by \
               more, so the bound of update s is s times the bound of the first. At a rate so high, or an eps so \
               small, that rounding may move the parameters by more than 1 %, gradients are compared no longer.",
    does_not_verify: "A mistake that both runs make. Regrouped windows that have other gradients by design: where the \
                      contract averages the means of micro-batches, a layer takes statistics of its batch (BatchNorm), \
                      or micro-batches draw random numbers, as for dropout, noise and timesteps. They are not compared.",
    kind: Kind::Pair(judge),
    compares: Compares::Figures,
    judges_a_start: false,
    rank: Rank::Partition,
    needs: &[Fact::Plan],
};

fn judge(run: &RunEvidence, against: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    let Some((mut judge, mut run, mut against)) = Judge::of(run, against, sheet)? else { return Ok(()) };
    loop {
        // Both runs are walked update by update, so that only one window of each is in memory.
        match (run.next()?, against.next()?) {
            (Some(step), Some(other)) => {
                // A trace may give its tensors only later; the larger count gives the safer bound.
                judge.tensor_terms = run.tensor_terms.max(against.tensor_terms);
                judge.step(&step, &other, sheet);
            }
            (Some(step), None) => {
                judge.count(&step.line, &against, sheet);
                return Ok(());
            }
            (None, Some(_)) => {
                if let Some((end, _)) = &run.ended {
                    judge.count(end, &run, sheet);
                }
                return Ok(());
            }
            (None, None) => return Ok(()),
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use traintrue_protocol::contract::Normaliser;
    use traintrue_protocol::number::Number;
    use traintrue_protocol::trace::Event;
    use traintrue_protocol::trace::event::State;
    use traintrue_protocol::vocabulary::Moment;

    use super::*;
    use crate::testing::*;

    /// 12 samples and windows of 6, as three micro-batches of two or as one of six; with an eps so large that rounding
    /// stays small, and losses that do not depend on the grouping.
    fn grouped(batch: u64, accumulation: u64) -> Vec<Event> {
        let mut plan = plan();
        plan.data.samples.truncate(12);
        plan.train.optimizer.eps = 1.0;
        plan.state_every = Some(1);
        (plan.data.batch, plan.train.accumulation) = (batch, accumulation);
        let mut events = segment(&plan, None, None);
        for event in &mut events {
            match event {
                Event::MicroBatch(it) => {
                    it.losses.iter_mut().for_each(|loss| loss.sum = Number(2.5 * loss.weight.0));
                }
                Event::State(it) => it.rng = Some("t:still".into()),
                _ => {}
            }
        }
        events
    }

    #[test]
    fn the_same_samples_make_the_same_update_in_any_grouping() {
        holds(&judge_runs(RULE.name, &[grouped(2, 3)], &[grouped(6, 1)]));
        holds(&judge_runs(RULE.name, &[grouped(3, 2)], &[grouped(2, 3)]));
    }

    #[rstest]
    #[case::rounded(|it: &mut f64| *it *= 1.00001, None)]
    #[case::summed(|it: &mut f64| *it *= 3.0, Some("summed, not averaged"))]
    #[case::divided_twice(|it: &mut f64| *it /= 3.0, Some("once too often"))]
    #[case::other_weights(|it: &mut f64| *it *= 1.03, Some("equal weights"))]
    fn a_norm_may_differ_by_rounding_only(#[case] change: fn(&mut f64), #[case] cause: Option<&str>) {
        let mut events = grouped(2, 3);
        let update = update_at(&mut events, 2);
        update.grad_norm.iter_mut().for_each(|norm| change(&mut norm.0));
        let sheet = judge_runs(RULE.name, &[events], &[grouped(6, 1)]);
        match cause {
            None => holds(&sheet),
            Some(cause) => {
                let found = breaks(sheet, "normaliser");
                assert!(found.contains(cause), "{found}");
            }
        }
    }

    /// Six micro-batches of two samples, in a window of four and one of two.
    #[test]
    fn a_short_window_that_is_divided_as_a_full_one_is_named() {
        let mut events = grouped(2, 4);
        update_at(&mut events, 2).grad_norm.iter_mut().for_each(|norm| norm.0 *= 0.5);
        let found = breaks(judge_runs(RULE.name, &[events], &[grouped(8, 1)]), "normaliser");
        assert!(found.contains("a window of 2 micro-batches is divided as a full one of 4"), "{found}");
    }

    #[rstest]
    #[case::samples(|events: &mut Vec<Event>| batch_at(events, 0, 1).samples = Some(vec![2, 7]), "order")]
    #[case::boundary(|events: &mut Vec<Event>| {
        let at = position(events, |event| matches!(event, Event::Update(_)));
        events.swap(at, at - 1);
    }, "boundary")]
    #[case::targets(|events: &mut Vec<Event>| update_at(events, 1).targets = Some(3), "boundary")]
    #[case::rate(|events: &mut Vec<Event>| update_at(events, 1).lr[0] = Number(7e-4), "schedule")]
    #[case::tensor(|events: &mut Vec<Event>| {
        state_at(events, Moment::Update).tensors[2].grad_norm = Some(Number(0.6));
    }, "normaliser")]
    #[case::values(|events: &mut Vec<Event>| state_at(events, Moment::Update).tensors[2].sketch[1] = Number(1.0), "clipper")]
    #[case::lost(|events: &mut Vec<Event>| update_at(events, 1).grad_norm = Some(Number(f64::NAN)), "numerics")]
    #[case::more(|events: &mut Vec<Event>| {
        let at = position(events, |event| matches!(event, Event::Update(it) if it.step == 4));
        events.remove(at);
    }, "boundary")]
    fn an_update_that_differs_breaks(#[case] change: fn(&mut Vec<Event>), #[case] component: &str) {
        let mut events = grouped(2, 3);
        change(&mut events);
        breaks(judge_runs(RULE.name, &[events], &[grouped(6, 1)]), component);
    }

    #[test]
    fn what_no_bound_tells_apart_is_not_compared() {
        let huge = |mut events: Vec<Event>| {
            state_at(&mut events, Moment::Update).tensors[2].shape = vec![8_000_000];
            events
        };
        let mut events = huge(grouped(2, 3));
        update_at(&mut events, 2).grad_norm = Some(Number(9.0));
        let sheet = judge_runs(RULE.name, &[events], &[huge(grouped(6, 1))]);
        assert!(sheet.broken.is_none(), "{sheet:?}");
        assert!(sheet.missing.is_some_and(|why| why.contains("not compared")));
    }

    #[test]
    fn at_a_rate_at_which_rounding_grows_gradients_are_compared_no_longer() {
        let wild = |mut events: Vec<Event>| {
            if let Event::Run(run) = &mut events[0] {
                run.plan.train.optimizer.eps = 1e-8;
            }
            events
        };
        let differs = |update: u64| {
            let mut events = wild(grouped(2, 3));
            update_at(&mut events, update).grad_norm = Some(Number(9.0));
            judge_runs(RULE.name, &[events], &[wild(grouped(6, 1))])
        };
        breaks(differs(2), "normaliser");
        let sheet = differs(3);
        assert!(sheet.broken.is_none() && sheet.compared > 0, "{sheet:?}");
        assert!(sheet.missing.is_some_and(|why| why.contains("by more than 1 %")));
    }

    #[test]
    fn a_contract_that_averages_micro_batches_is_not_accused() {
        let mut events = grouped(2, 3);
        if let Event::Run(run) = &mut events[0] {
            run.contract.normaliser = Normaliser::MicroBatches;
        }
        update_at(&mut events, 2).grad_norm = Some(Number(9.0));
        let sheet = judge_runs(RULE.name, &[events], &[grouped(6, 1)]);
        assert!(sheet.broken.is_none() && sheet.missing.is_some() && sheet.compared > 0);
    }

    #[rstest]
    #[case::batch_statistics(|events: &mut Vec<Event>| {
        let parts = &mut state_at(events, Moment::Start).parts;
        parts.insert(State::BATCH_STATISTICS.into(), "t:1".into());
    }, "statistics of its batch")]
    #[case::random_numbers(|events: &mut Vec<Event>| {
        for (at, event) in events.iter_mut().enumerate() {
            if let Event::State(it) = event {
                it.rng = Some(format!("t:{at}"));
            }
        }
    }, "draw random numbers")]
    fn windows_that_cannot_be_regrouped_are_not_accused(
        #[case] change: fn(&mut Vec<Event>),
        #[case] why: &str,
    ) {
        let differs = |against: Vec<Event>| {
            let mut events = grouped(2, 3);
            change(&mut events);
            update_at(&mut events, 2).grad_norm = Some(Number(9.0));
            judge_runs(RULE.name, &[events], &[against])
        };
        let sheet = differs(grouped(6, 1));
        assert!(sheet.broken.is_none() && sheet.compared > 0, "{sheet:?}");
        assert!(sheet.missing.as_deref().is_some_and(|found| found.contains(why)), "{sheet:?}");
        // In the same micro-batches, both runs have the same statistics and draw the same numbers.
        breaks(differs(grouped(2, 3)), "normaliser");
    }

    #[test]
    fn a_loss_that_depends_on_the_split_is_told() {
        let mut events = grouped(2, 3);
        update_at(&mut events, 2).grad_norm = Some(Number(9.0));
        batch_at(&mut events, 0, 4).losses[0].sum.0 *= 1.5;
        let found = breaks(judge_runs(RULE.name, &[events], &[grouped(6, 1)]), "normaliser");
        assert!(found.contains("the loss of the same samples differs as well"), "{found}");
    }
}
