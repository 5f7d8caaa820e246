//! `ranks/own-state`: what a rank has alone comes back on the rank that saved it.

use traintrue_protocol::trace::event::State;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line, TraceError, TraceReader};
use traintrue_protocol::vocabulary::{Component, Moment};

use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

/// Each rank resumes from its own part of a checkpoint.
pub static RULE: Rule = Rule {
    name: "ranks/own-state",
    says: "a resumed rank has its own random stream and open window, and not those of another rank",
    verifies: "Where a process goes on from another: of the digests of the random stream and of the open window's gradients, \
               none is that of another rank's last state, unless its own was the same.",
    does_not_verify: "That they are the ones that this rank saved, bit for bit, with all else (seam/identical).",
    kind: Kind::Ranks(judge),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Ranks,
    needs: &[Fact::Plan],
};

/// A digest of a part of a state.
type Of = fn(&State) -> Option<&String>;

/// What a rank has alone, by name, with the part of a trainer that brings it back.
const ALONE: [(&str, Of, Component); 2] = [
    ("random stream", |state| state.rng.as_ref(), Component::Rng),
    ("open window", |state| state.window_digest.as_ref(), Component::Window),
];

fn judge(ranks: &[&RunEvidence], _: Option<&RunEvidence>, sheet: &mut Sheet) -> Result<(), TraceError> {
    let segments = ranks.iter().map(|rank| rank.segments.len()).min().unwrap_or_default();
    for segment in 1..segments {
        let saved: Result<Vec<Option<State>>, TraceError> =
            ranks.iter().map(|rank| Ok(states(rank, segment - 1)?.pop().map(|(_, state)| state))).collect();
        let Some(saved) = saved?.into_iter().collect::<Option<Vec<State>>>() else { continue };
        for (rank, evidence) in ranks.iter().enumerate() {
            let loaded = states(evidence, segment)?.into_iter().find(|(_, state)| state.at == Moment::Loaded);
            if let Some((line, loaded)) = loaded {
                compare(&loaded, &saved, (&line, (rank, segment)), sheet);
            }
        }
    }
    if sheet.compared == 0 {
        sheet.missing("states of ranks that go on");
    }
    Ok(())
}

fn states(run: &RunEvidence, segment: usize) -> Result<Vec<(Line, State)>, TraceError> {
    let mut last = Vec::new();
    for line in TraceReader::open(&run.segments[segment])? {
        let line = line?;
        if let Event::State(state) = &line.event {
            // The state after a load is looked for, and the last: those between them are many.
            last.retain(|(_, state): &(Line, State)| state.at == Moment::Loaded);
            last.push((line.clone(), State::clone(state)));
        }
    }
    Ok(last)
}

fn compare(loaded: &State, saved: &[State], (line, place): (&Line, (usize, usize)), sheet: &mut Sheet) {
    let rank = place.0;
    for (what, of, component) in ALONE {
        let (Some(found), Some(own)) = (of(loaded), of(&saved[rank])) else { continue };
        let others = saved.iter().enumerate().filter(|(other, _)| *other != rank);
        let from = others.filter(|(_, state)| of(state) == Some(found)).map(|(other, _)| other).next();
        let foreign = from.filter(|_| found != own);
        sheet.check_on(place, foreign.is_none(), line, || Difference {
            expected: format!("the {what} that rank {rank} saved, {own}"),
            actual: format!("that of rank {}, {found}", foreign.unwrap_or_default()),
            component,
            cause: format!(
                "rank {rank} goes on with the {what} of rank {}: each rank must save its own and load it by its rank",
                foreign.unwrap_or_default()
            ),
        });
    }
}
