//! `ranks/equal-one`: the ranks together make the updates of one process that trains all their micro-batches.

use traintrue_protocol::trace::TraceError;
use traintrue_protocol::trace::event::Update;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::vocabulary::Component;

use crate::finding::{Difference, Sheet};
use crate::invariants::shared::steps::{Step, Steps};
use crate::invariants::shared::stream::Stream;
use crate::invariants::training::partition::Judge;
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

/// W ranks are one rank with W times the window.
pub static RULE: Rule = Rule {
    name: "ranks/equal-one",
    says: "the ranks together make the updates of one process that trains all their micro-batches",
    verifies: "As partition/same-update, of the windows of all ranks together and the windows of one process: samples, \
               targets and rates are equal, and gradients and parameters agree within bounds derived from the number format.",
    does_not_verify: "A mistake that one process makes too. Parameters of other ranks than the first (ranks/one-model).",
    kind: Kind::Ranks(judge),
    compares: Compares::Figures,
    judges_a_start: false,
    rank: Rank::Partition,
    needs: &[Fact::Plan],
};

fn judge(ranks: &[&RunEvidence], against: Option<&RunEvidence>, sheet: &mut Sheet) -> Result<(), TraceError> {
    let Some(against) = against else {
        sheet.cannot("the scenario names no run to compare with (`against`)");
        return Ok(());
    };
    let opened: Result<Vec<Option<Steps>>, TraceError> =
        ranks.iter().map(|rank| Steps::of(Stream::of(&rank.segments))).collect();
    let (Some(mut steps_of), Some(mut one)) =
        (opened?.into_iter().collect::<Option<Vec<_>>>(), Steps::of(Stream::of(&against.segments))?)
    else {
        return Ok(());
    };
    let Some(mut judge) = Judge::new((ranks[0], &steps_of[0]), (against, &one), sheet)? else {
        return Ok(());
    };
    loop {
        let steps: Result<Option<Vec<Step>>, TraceError> = steps_of.iter_mut().map(Steps::next).collect();
        let (Some(step), Some(other)) = (steps?.and_then(together), one.next()?) else { break };
        judge.tensor_terms = steps_of[0].tensor_terms.max(one.tensor_terms);
        judge.step(&step, &other, sheet);
    }
    if let Some((line, _)) = &one.ended {
        let made = sheet.compared > 0;
        sheet.check(made, line, || Difference {
            expected: "an update of all ranks".into(),
            actual: "none".into(),
            component: Component::Boundary,
            cause: "the ranks make no update together".into(),
        });
    }
    Ok(())
}

/// The update of rank 0, with the windows of all ranks.
fn together(steps: Vec<Step>) -> Option<Step> {
    steps.into_iter().reduce(|one, other| Step {
        samples: one.samples.zip(other.samples).map(|(mut all, more)| {
            all.extend(more);
            all.sort_unstable();
            all
        }),
        micro_batches: one.micro_batches.saturating_add(other.micro_batches),
        positions: one.positions.saturating_add(other.positions),
        update: Update {
            targets: one
                .update
                .targets
                .zip(other.update.targets)
                .map(|(one, other)| one.saturating_add(other)),
            ..one.update
        },
        ..one
    })
}
