//! `ranks/evaluate-once`: the ranks share the evaluation set out, and all report the mean over the whole of it.

use traintrue_protocol::number::Number;
use traintrue_protocol::trace::event::Evaluation;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Line, TraceError};
use traintrue_protocol::vocabulary::Component;

use super::walk::{Turn, Walk};
use crate::finding::{Difference, Sheet};
use crate::near::near;
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

/// Relative: f32 sums of a few thousand terms.
const TOLERANCE: f64 = 1e-5;

/// Shares of one evaluation.
pub static RULE: Rule = Rule {
    name: "ranks/evaluate-once",
    says: "the ranks together evaluate every sample once, and each reports the mean over all of them",
    verifies: "Of every evaluation: the sample ids of all ranks together are the plan's, each once. The metric of every rank \
               is the sum of all ranks' losses divided by the sum of their weights, within 1e-5.",
    does_not_verify: "The losses of the batches, and metrics other than a mean loss.",
    kind: Kind::Ranks(judge),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Ranks,
    needs: &[Fact::Plan],
};

/// One rank's part of an evaluation.
type Share<'a> = ((usize, usize), &'a Line, &'a Evaluation);

fn judge(ranks: &[&RunEvidence], _: Option<&RunEvidence>, sheet: &mut Sheet) -> Result<(), TraceError> {
    let Some(mut walk) = Walk::of(ranks)? else { return Ok(()) };
    let all = walk.opening.plan.data.evaluation.len() as u64;
    while let Some(turns) = walk.next()? {
        let count = turns.iter().map(|turn| turn.evaluations().count()).max().unwrap_or_default();
        for at in 0..count {
            let of = |turn| Turn::evaluations(turn).nth(at).map(|(line, it)| (turn.place, line, it));
            let shares: Vec<Share> = turns.iter().filter_map(of).collect();
            covers(&shares, all, sheet);
            metrics(&shares, sheet);
        }
    }
    if sheet.compared == 0 {
        sheet.missing("evaluations");
    }
    Ok(())
}

fn covers(shares: &[Share], all: u64, sheet: &mut Sheet) {
    let mut ids: Vec<(u64, usize)> = Vec::new();
    for (place, _, it) in shares {
        let Some(samples) = &it.samples else { return sheet.missing("samples of an evaluation") };
        ids.extend(samples.iter().map(|&id| (id, place.0)));
    }
    ids.sort_unstable();
    let Some(&(place, line, it)) = shares.last() else { return };
    let again = ids.windows(2).find(|pair| pair[0].0 == pair[1].0).map(|pair| (pair[0], pair[1].1));
    let left_out = (0..all).find(|&id| ids.binary_search_by_key(&id, |(id, _)| *id).is_err());
    sheet.check_on(place, ids.iter().map(|(id, _)| *id).eq(0..all), line, || Difference {
        expected: format!("each of the {all} evaluation samples once, over all ranks, after update {}", it.step),
        actual: format!("{} samples", ids.len()),
        component: Component::Evaluation,
        cause: match (again, left_out) {
            (Some(((id, one), other)), _) if one != other => format!(
                "sample {id} is evaluated on ranks {one} and {other}, and counts twice in the mean: check what fills the ranks' \
                 shares up, and that each knows its rank"
            ),
            (Some(((id, rank), _)), _) => format!("rank {rank} evaluates sample {id} twice"),
            (None, Some(id)) => format!("no rank evaluates sample {id}: check how the set is shared out"),
            (None, None) => "the ranks evaluate samples that the plan does not have".into(),
        },
    });
}

fn metrics(shares: &[Share], sheet: &mut Sheet) {
    let sums = |it: &Evaluation| {
        let lm = it.losses.iter().filter(|loss| loss.name == "lm");
        lm.fold((0.0, 0.0), |(sum, weight), loss| (sum + loss.sum.0, weight + loss.weight.0))
    };
    let mean = |shares: &[Share]| {
        let of_each = shares.iter().map(|(_, _, it)| sums(it));
        let (sum, weight) = of_each.fold((0.0, 0.0), |all, one| (all.0 + one.0, all.1 + one.1));
        if weight == 0.0 { f64::NAN } else { sum / weight }
    };
    let whole = mean(shares);
    for share in shares {
        let (place, line, it) = *share;
        let Some(metric) = it.metric else { return sheet.missing("metric") };
        let is = |other: f64| near(metric, Number(other), TOLERANCE * other.abs().max(f64::MIN_POSITIVE));
        sheet.check_on(place, is(whole), line, || Difference {
            expected: format!("metric {} over all ranks after update {}", Number(whole), it.step),
            actual: format!("{metric} on rank {}", place.0),
            component: Component::Evaluation,
            cause: if is(mean(&[*share])) {
                format!(
                    "rank {} reports the mean of its own share: the sums of the ranks are not added up",
                    place.0
                )
            } else {
                "the metric is not the mean over the targets of all ranks".into()
            },
        });
    }
}
