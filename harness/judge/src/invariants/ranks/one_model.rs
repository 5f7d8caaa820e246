//! `ranks/one-model`: all ranks hold the same parameters and moments, from the first state to the last.

use std::collections::BTreeMap;

use traintrue_protocol::trace::event::{State, TensorState};
use traintrue_protocol::trace::{Line, TraceError};
use traintrue_protocol::vocabulary::{Component, Moment};

use super::walk::Walk;
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

/// Ranks hold replicas.
pub static RULE: Rule = Rule {
    name: "ranks/one-model",
    says: "all ranks hold the same parameters and moments, bit for bit",
    verifies: "In every state that the ranks tell at the same moment: the digest of each tensor that several ranks have whole, \
               and of its moments. After every update: the digest of all that trains.",
    does_not_verify: "Tensors of which each rank holds a shard. Whether the parameters are the right ones \
                      (ranks/equal-one, update/replayed).",
    kind: Kind::Ranks(judge),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Ranks,
    needs: &[],
};

fn judge(ranks: &[&RunEvidence], _: Option<&RunEvidence>, sheet: &mut Sheet) -> Result<(), TraceError> {
    let Some(mut walk) = Walk::of(ranks)? else { return Ok(()) };
    // Digests of the last state of each rank, by name.
    let mut last: Vec<BTreeMap<String, String>> = vec![BTreeMap::new(); ranks.len()];
    while let Some(turns) = walk.next()? {
        let Some((first, others)) = turns.split_first() else { break };
        for (at, (_, state)) in first.states().enumerate() {
            for other in others {
                if let Some((line, theirs)) =
                    other.states().nth(at).filter(|(_, theirs)| theirs.at == state.at)
                {
                    compare(state, theirs, (line, other.place), &last, sheet);
                }
            }
            for (turn, last) in turns.iter().zip(&mut last) {
                let tensors = turn.states().nth(at).map(|(_, state)| &state.tensors).into_iter().flatten();
                last.extend(tensors.map(|it| (it.name.clone(), it.digest.clone())));
            }
        }
        for other in others {
            if let (Some((_, one)), Some((line, two))) = (first.update(), other.update())
                && let (Some(expected), Some(found)) = (&one.digest, &two.digest)
            {
                let rank = other.place.0;
                sheet.check_on(other.place, expected == found, line, || Difference {
                    expected: format!("parameters {expected} after update {}, as on rank 0", one.step),
                    actual: format!("{found} on rank {rank}"),
                    component: Component::Replicas,
                    cause: format!(
                        "rank {rank} is not a copy of rank 0 any more after update {}: they applied different gradients, or \
                         one of them changed its parameters alone",
                        one.step
                    ),
                });
            }
        }
        if sheet.broken.is_some() {
            break;
        }
    }
    Ok(())
}

fn compare(
    state: &State,
    theirs: &State,
    (line, place): (&Line, (usize, usize)),
    last: &[BTreeMap<String, String>],
    sheet: &mut Sheet,
) {
    let rank = place.0;
    let still = |rank: usize, tensor: &TensorState| last[rank].get(&tensor.name) == Some(&tensor.digest);
    let mut pairs: Vec<_> = whole_on_both(state, theirs).collect();
    // A tensor that stood still on one rank is the cause, and those that parted with it a consequence.
    pairs.sort_by_key(|(tensor, other)| {
        tensor.digest == other.digest || !(still(0, tensor) || still(rank, other))
    });
    for (tensor, other) in pairs {
        let same = tensor.digest == other.digest;
        sheet.check_on(place, same, line, || {
            let alone = [(0, tensor), (rank, other)].into_iter().find(|(rank, tensor)| still(*rank, tensor));
            Difference {
                expected: format!("{} as on rank 0 {}", tensor.name, moment(theirs)),
                actual: format!("other values on rank {rank}"),
                component: if alone.is_some() { Component::OptimizerGroups } else { Component::Replicas },
                cause: match (theirs.at, alone) {
                    (Moment::Start, _) => format!(
                        "the ranks begin with different values in {}: nothing broadcasts rank 0's, or one of them loads others, or \
                         draws them anew, after that",
                        tensor.name
                    ),
                    (Moment::Loaded, _) => "the ranks load different values: check which file each reads".to_owned(),
                    (_, Some((still, tensor))) => format!(
                        "{} did not change on rank {still} since the state before, and did on rank {}: it is frozen there, or in no \
                         optimizer, or the other rank changed it by itself",
                        tensor.name,
                        if still == rank { 0 } else { rank }
                    ),
                    (_, None) => format!(
                        "{} was the same on rank {rank} as on rank 0 in the state before this one: since then they applied other \
                         gradients, with other moments or decay, or one of them changed it alone",
                        tensor.name
                    ),
                },
            }
        });
        if let (true, Some(one), Some(two)) = (same, &tensor.moments, &other.moments) {
            sheet.check_on(place, one == two, line, || Difference {
                expected: format!("moments of {} as on rank 0 {}", tensor.name, moment(theirs)),
                actual: format!("others on rank {rank}"),
                component: Component::Moments,
                cause: "the ranks hold one parameter and different moments of it: check what each restores, and that each \
                        gets the mean gradient"
                    .into(),
            });
        }
    }
}

/// Tensors of the same name and extents. A shard has other extents, or a name of its own.
fn whole_on_both<'a>(
    one: &'a State,
    two: &'a State,
) -> impl Iterator<Item = (&'a TensorState, &'a TensorState)> {
    let named: BTreeMap<&str, &TensorState> = two.tensors.iter().map(|it| (it.name.as_str(), it)).collect();
    one.tensors.iter().filter_map(move |tensor| {
        let other = named.get(tensor.name.as_str())?;
        (tensor.shape == other.shape).then_some((tensor, *other))
    })
}

fn moment(state: &State) -> String {
    match state.at {
        Moment::Start => "at the start".to_owned(),
        Moment::Loaded => "after the load".to_owned(),
        _ => format!("after update {}", state.step),
    }
}
