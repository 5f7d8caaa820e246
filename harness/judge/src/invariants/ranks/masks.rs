//! `ranks/own-dropout`: no two ranks drop the same units.

use traintrue_protocol::trace::event::Dropped;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Line, TraceError};
use traintrue_protocol::vocabulary::Component;

use super::walk::Walk;
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

/// Two streams agree by chance over fewer units than this.
const FEWEST: u64 = 256;

/// Each rank has a random stream of its own.
pub static RULE: Rule = Rule {
    name: "ranks/own-dropout",
    says: "each rank draws dropout masks of its own",
    verifies: "Of the micro-batches whose dropouts are told: no mask of at least 256 units, of which some are dropped, is the \
               same on two ranks.",
    does_not_verify: "That masks are as dropout should be (dropout/as-asked). Other random streams, such as those of data \
                      workers.",
    kind: Kind::Ranks(judge),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Ranks,
    needs: &[Fact::Plan],
};

fn judge(ranks: &[&RunEvidence], _: Option<&RunEvidence>, sheet: &mut Sheet) -> Result<(), TraceError> {
    let Some(mut walk) = Walk::of(ranks)? else { return Ok(()) };
    while let Some(turns) = walk.next()? {
        let told: Vec<Vec<(&Line, &[Dropped])>> = turns
            .iter()
            .map(|turn| {
                let told =
                    turn.micro_batches().map(|(line, it)| (line, it.dropout.as_deref().unwrap_or_default()));
                told.collect()
            })
            .collect();
        for (rank, own) in told.iter().enumerate() {
            for (other, theirs) in told[..rank].iter().enumerate() {
                for ((line, masks), (_, others)) in own.iter().zip(theirs) {
                    compare(masks, others, (line, turns[rank].place, other), sheet);
                }
            }
        }
    }
    if sheet.compared == 0 {
        sheet.missing("masks of dropout of several ranks");
    }
    Ok(())
}

fn compare(
    masks: &[Dropped],
    others: &[Dropped],
    (line, place, other): (&Line, (usize, usize), usize),
    sheet: &mut Sheet,
) {
    let drops = |mask: &Dropped| mask.units >= FEWEST && mask.dropped > 0;
    let pairs = masks.iter().zip(others).enumerate();
    for (at, (mask, _)) in pairs.clone().filter(|(_, (one, two))| drops(one) && drops(two)) {
        let same = mask.digest == others[at].digest;
        sheet.check_on(place, !same, line, || Difference {
            expected: format!("another mask on rank {} than on rank {other}", place.0),
            actual: format!("dropout {at} of the forward drops the same of its first units on both"),
            component: Component::Seeding,
            cause: "the ranks draw their dropout from one stream, so that W ranks see the masks of one: seed each with its \
                    rank, after the weights are made"
                .into(),
        });
    }
}
