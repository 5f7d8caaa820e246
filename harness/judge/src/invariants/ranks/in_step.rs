//! `ranks/in-step`: all ranks make the same updates of as many micro-batches, at the same rates.

use traintrue_protocol::number::Number;
use traintrue_protocol::trace::TraceError;
use traintrue_protocol::trace::event::Update;
use traintrue_protocol::vocabulary::Component;

use super::walk::{Turn, Walk};
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

/// Ranks count alike.
pub static RULE: Rule = Rule {
    name: "ranks/in-step",
    says: "all ranks make the same updates, of as many micro-batches, at the same rates",
    verifies: "Update by update: every rank makes it, with as many micro-batches in its window as rank 0, at the same \
               learning rates and weight decays, and applies it where rank 0 does.",
    does_not_verify: "What the updates are made of (ranks/mean-gradient), and whether the rate is the schedule's \
                      (schedule/closed-form).",
    kind: Kind::Ranks(judge),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Ranks,
    needs: &[],
};

fn judge(ranks: &[&RunEvidence], _: Option<&RunEvidence>, sheet: &mut Sheet) -> Result<(), TraceError> {
    let Some(mut walk) = Walk::of(ranks)? else { return Ok(()) };
    while let Some(turns) = walk.next()? {
        let Some((first, others)) = turns.split_first() else { break };
        others.iter().for_each(|other| compare(first, other, sheet));
        if sheet.broken.is_some() {
            break;
        }
    }
    Ok(())
}

fn compare(first: &Turn, other: &Turn, sheet: &mut Sheet) {
    let rank = other.place.0;
    let ((line, update), (there, others)) = match (first.update(), other.update()) {
        (Some(one), Some(other)) => (one, other),
        (None, None) => return,
        (one, other_one) => {
            let (place, (line, update), ends) = match (one, other_one) {
                (Some(one), _) => (first.place, one, rank),
                (_, Some(one)) => (other.place, one, 0),
                _ => return,
            };
            sheet.check_on(place, false, line, || Difference {
                expected: format!("update {} on every rank", update.step),
                actual: format!("rank {ends} ends before it"),
                component: Component::Boundary,
                cause: format!(
                    "rank {ends} makes fewer updates than the others, which wait for it: it has fewer micro-batches, or its \
                     windows close elsewhere"
                ),
            });
            return;
        }
    };
    let mut same =
        |holds: bool, at: (usize, usize), line, expected: String, actual: String, component, cause: &str| {
            sheet.check_on(at, holds, line, || Difference {
                expected,
                actual,
                component,
                cause: cause.to_owned(),
            });
        };
    // A recorder counts the micro-batches whose gradients are there: a backward pass for another purpose is none of them.
    let size = |turn: &Turn, update: &Update| {
        let held = update.micro_batches.filter(|_| update.since.is_some());
        held.unwrap_or(turn.micro_batches().count() as u64)
    };
    let (own, theirs) = (size(first, update), size(other, others));
    same(
        own == theirs,
        other.place,
        there,
        format!("{own} micro-batches in update {}, as on rank 0", update.step),
        format!("{theirs} on rank {rank}"),
        Component::Boundary,
        "the windows of the ranks have different numbers of micro-batches, and their mean gives each rank one weight: check \
         how samples are shared out, what closes a window, and what clears the gradients",
    );
    same(
        figures(&update.lr) == figures(&others.lr),
        other.place,
        there,
        format!("the rates of rank 0 at update {}: {}", update.step, figures(&update.lr)),
        format!("{} on rank {rank}", figures(&others.lr)),
        Component::Schedule,
        "the ranks train at different learning rates: check how often each steps its schedule",
    );
    same(
        figures(&update.decay) == figures(&others.decay),
        other.place,
        there,
        format!("the weight decay of rank 0 at update {}: {}", update.step, figures(&update.decay)),
        format!("{} on rank {rank}", figures(&others.decay)),
        Component::OptimizerGroups,
        "the ranks train with different weight decays: check what each makes its optimizer of",
    );
    same(
        update.applied == others.applied,
        if update.applied { other.place } else { first.place },
        if update.applied { there } else { line },
        format!("update {} applied on all ranks, or on none", update.step),
        format!("skipped on rank {}", if update.applied { rank } else { 0 }),
        Component::Reduction,
        "one rank skips an update that the others make: a gradient that is not finite must be known on every rank",
    );
}

fn figures(of_groups: &[Number]) -> String {
    of_groups.iter().map(Number::to_string).collect::<Vec<_>>().join(", ")
}
