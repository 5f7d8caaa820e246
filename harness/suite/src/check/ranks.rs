//! Judges the traces of several ranks together: of a scenario's run, or of a recorded command.

use traintrue_judge::case::compare_ranks;
use traintrue_judge::expectation::Expectation;
use traintrue_judge::finding::Sheet;
use traintrue_judge::invariants::ranks::gradient;
use traintrue_judge::rule::{Kind, Rule, RunEvidence, run_name};
use traintrue_judge::rules::RULES;
use traintrue_judge::tally::Tally;

use super::{Group, Recorded, counterpart};

/// Judges the ranks of a run together, where `run` is the first of them and all are there.
pub(super) fn of_scenario(
    rule: &Rule,
    asked: &Expectation,
    recorded: &[Recorded],
    groups: &[Group],
    run: &Group,
    tallies: &mut [Tally],
) {
    let is_of = |other: &&Group| other.scenario == run.scenario && run_name(other.name) == run_name(run.name);
    let ranks: Vec<&Group> = groups.iter().filter(is_of).collect();
    if ranks[0].name != run.name || run_name(run.name) == run.name {
        return;
    }
    let world = recorded[run.members[0]].run.plan.train.world;
    let against = match asked.against.as_deref() {
        Some(name) => counterpart(groups, name, run).map(Some),
        None => Some(None),
    };
    let lacking = match against {
        None => {
            Some(format!("the run {} is not among the traces", asked.against.as_deref().unwrap_or_default()))
        }
        Some(_) if ranks.len() as u64 != world => {
            Some(format!("{} of its {world} ranks are given", ranks.len()))
        }
        Some(_) => None,
    };
    if let Some(why) = lacking {
        return run
            .members
            .iter()
            .for_each(|&at| tallies[at].note(&format!("{} is not judged: {why}", rule.name)));
    }
    let against = against.flatten().map(Group::evidence);
    let evidence: Vec<RunEvidence> = ranks.iter().map(|rank| rank.evidence()).collect();
    let sheet = compare_ranks(rule, &evidence.iter().collect::<Vec<_>>(), against.as_ref());
    let rank = sheet.broken.as_ref().map_or(0, |broken| broken.rank);
    let segment = sheet.broken.as_ref().map_or(0, |broken| broken.segment);
    if let Some(&at) = ranks[rank].members.get(segment) {
        tallies[at].asked(rule, &evidence[rank], against.as_ref(), &sheet);
    }
}

/// Judges the traces that a recorded command left on all its ranks, by what must hold over the copies of one model.
pub(super) fn of_recorded(recorded: &[Recorded], tallies: &mut [Tally]) {
    let said = |one: &Recorded| one.run.recorded.as_ref().and_then(|it| it.rank.zip(it.world));
    let mut ranks: Vec<(u64, usize)> =
        recorded.iter().enumerate().filter_map(|(at, one)| Some((said(one)?.0, at))).collect();
    ranks.sort_unstable();
    let Some(world) = ranks.first().and_then(|(_, at)| said(&recorded[*at])).map(|(_, world)| world) else {
        return;
    };
    let apart = ranks.iter().find_map(|(_, at)| recorded[*at].run.recorded.as_ref()?.apart.clone());
    let whole = ranks.iter().map(|(rank, _)| *rank).eq(0..world);
    let why =
        apart.or_else(|| (!whole).then(|| format!("a trace of each of the {world} ranks is needed, once")));
    if let Some(why) = why {
        return ranks
            .iter()
            .for_each(|(_, at)| tallies[*at].note(&format!("the ranks are not compared: {why}")));
    }
    let evidence = |&(rank, at): &(u64, usize)| RunEvidence {
        name: format!("rank-{rank}"),
        segments: vec![recorded[at].path.to_owned()],
        repeats: Vec::new(),
    };
    let evidence: Vec<RunEvidence> = ranks.iter().map(evidence).collect();
    let opening = recorded[ranks[0].1].run.recorded.as_ref();
    let rules = RULES.iter().filter(|rule| matches!(rule.kind, Kind::Ranks(_)) && rule.applies_to(opening));
    let sheets: Vec<(&Rule, Sheet)> =
        rules.map(|rule| (*rule, compare_ranks(rule, &evidence.iter().collect::<Vec<_>>(), None))).collect();
    let began = |sheet: &Sheet| Some(sheet.broken.as_ref()?.at.step.unwrap_or_default());
    for (rule, sheet) in &sheets {
        // Ranks that have come out of step cannot average any more: what they do after that is a consequence.
        let before = sheets.iter().take_while(|(other, _)| other.name != rule.name);
        let is_consequence = began(sheet)
            .is_some_and(|at| before.filter_map(|(_, other)| began(other)).any(|earlier| earlier <= at));
        if is_consequence && rule.name == gradient::RULE.name {
            continue;
        }
        let rank = sheet.broken.as_ref().map_or(0, |broken| broken.rank);
        let (at, run) = (ranks[rank].1, &evidence[rank]);
        tallies[at].add(rule, &run.name, &run.segments[0], sheet);
        let unseen = sheet.missing.as_ref().filter(|_| sheet.compared == 0 && sheet.broken.is_none());
        if let Some(why) = unseen {
            tallies[at].note(&format!("not judged: {why} ({})", rule.name));
        }
    }
}
