//! `prefix/independent`: what a model says of a text's beginning does not depend on how the text goes on.

use traintrue_protocol::number::Number;
use traintrue_protocol::trace::event::{Probe, ProbeRow};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Line, TraceError};
use traintrue_protocol::vocabulary::Component;

use super::start::Start;
use crate::arithmetic;
use crate::finding::{Difference, Sheet};
use crate::near::near;
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

/// No position sees a later token.
pub(crate) static RULE: Rule = Rule {
    name: "prefix/independent",
    says: "the logits of a text's beginning do not depend on how the text goes on",
    verifies: "Two runs have the same parameters at the start, and samples that begin alike and go on differently. In each \
               probe that both make then, the logits at all positions of the common beginning agree within the rounding \
               bound.",
    does_not_verify: "Heads that see the whole text by design. Recurrent state that is kept between two forwards (rows/independent). \
                      Models that are not causal by design: such a trainer does not list `causal`.",
    kind: Kind::Pair(judge),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Probes,
    needs: &[Fact::Plan],
};

fn judge(run: &RunEvidence, against: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    let Some((run, against)) = Start::of_both(run, against, sheet)? else { return Ok(()) };
    let before = sheet.compared;
    for (line, probe, other) in run.shared(&against) {
        rows((&run, probe), (&against, other), line, sheet);
    }
    if sheet.compared == before {
        sheet.missing("probe at start of samples that begin alike, with logits at each real position");
    }
    Ok(())
}

fn rows(run: (&Start, &Probe), against: (&Start, &Probe), line: &Line, sheet: &mut Sheet) {
    let Some(bound) = sheet.comparable(run.0.bound(run.1, against.1)) else { return };
    for (row, (one, other)) in texts(run.0, run.1).into_iter().zip(texts(against.0, against.1)).enumerate() {
        let (Some(one), Some(other)) = (one, other) else { continue };
        let common = one.tokens.iter().zip(&other.tokens).take_while(|(one, other)| one == other).count();
        if common < one.tokens.len().max(other.tokens.len()) {
            let it = Beginning { name: &run.1.name, row, common };
            beginning(&it, &one.logits, &other.logits, bound, line, sheet);
        }
    }
}

/// A row of a probe.
struct Text<'a> {
    tokens: Vec<u32>,
    /// The sketches of the logits at each token.
    logits: Vec<&'a [Number]>,
}

/// The rows of a probe; none where a row does not have as many sketches for each token.
fn texts<'a>(start: &Start, probe: &'a Probe) -> Vec<Option<Text<'a>>> {
    let data = &start.plan.data;
    let asked = start.plan.probes.iter().find(|it| it.name == probe.name);
    let samples = asked.map(|it| it.samples.as_slice()).unwrap_or_default();
    let text = |id: &u64, row: &'a ProbeRow| {
        let tokens = arithmetic::truncated(data.samples.get(usize::try_from(*id).ok()?)?, data.max_length);
        let each = row.logits.len().checked_div(tokens.len())?;
        let fits = each > 0 && each * tokens.len() == row.logits.len();
        fits.then(|| Text { tokens, logits: row.logits.chunks_exact(each).collect() })
    };
    samples.iter().zip(&probe.rows).map(|(id, row)| text(id, row)).collect()
}

/// Which beginning is compared.
struct Beginning<'a> {
    name: &'a str,
    row: usize,
    /// Tokens that both texts begin with.
    common: usize,
}

fn beginning(
    it: &Beginning,
    logits: &[&[Number]],
    other: &[&[Number]],
    bound: f64,
    line: &Line,
    sheet: &mut Sheet,
) {
    let Beginning { name, row, common } = *it;
    let finite = logits.iter().chain(other).flat_map(|at| at.iter()).filter(|value| value.is_finite());
    let bound = bound * finite.map(|value| value.0.abs()).fold(0.0, f64::max);
    for (position, (found, expected)) in logits.iter().zip(other).take(common).enumerate() {
        for (found, expected) in found.iter().zip(*expected) {
            let is_same = sheet.check(near(*found, *expected, bound), line, || Difference {
                expected: format!(
                    "{expected:?} in the logits at position {position} of row {row} of {name}, within {}: its first {common} \
                     tokens are the same in both runs",
                    Number(bound),
                ),
                actual: format!("{found:?}"),
                component: Component::AttentionMask,
                cause: cause(position, common),
            });
            if !is_same {
                return;
            }
        }
    }
}

/// What the first position that differs says.
fn cause(position: usize, common: usize) -> String {
    if position + 1 == common {
        format!(
            "position {position} changes when the text goes on otherwise from token {common} on, and no position before it \
             does: the causal mask lets each position see the next token, the one that it is to predict"
        )
    } else {
        format!(
            "position {position} changes when the text goes on otherwise from token {common} on: positions see what comes \
             after them, so the loss can fall by looking ahead. Check that a causal mask reaches the attention, and its \
             direction"
        )
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use traintrue_protocol::trace::Event;
    use traintrue_protocol::vocabulary::Moment;

    use super::*;
    use crate::invariants::probes::start::start_probe;
    use crate::testing::*;

    /// Samples 0 to 2 have 3, 4 and 5 tokens; those of this run go on with these.
    fn going_on(with: &[u32]) -> Vec<Event> {
        let mut plan = plan();
        for sample in &mut plan.data.samples[..3] {
            sample.extend(with);
        }
        plan.data.max_length = 9;
        segment(&plan, None, None)
    }

    #[rstest]
    #[case::longer(&[7, 8])]
    #[case::other(&[4])]
    fn what_comes_later_changes_nothing_before_it(#[case] with: &[u32]) {
        holds(&judge_runs(RULE.name, &[going_on(with)], &[going_on(&[6])]));
    }

    #[rstest]
    #[case::the_next(2, "no position before it does")]
    #[case::all(0, "positions see what comes after them")]
    fn a_position_that_sees_later_tokens_is_named(#[case] from: usize, #[case] cause: &str) {
        let mut events = going_on(&[7, 8]);
        for value in &mut start_probe(&mut events).rows[0].logits[from..] {
            *value = Number(1.6);
        }
        let found = breaks(judge_runs(RULE.name, &[events], &[going_on(&[6])]), "attention-mask");
        assert!(found.contains(&format!("position {from} changes")) && found.contains(cause), "{found}");
    }

    #[test]
    fn positions_after_the_common_beginning_may_differ() {
        let mut events = going_on(&[7, 8]);
        start_probe(&mut events).rows[0].logits[3] = Number(9.0);
        holds(&judge_runs(RULE.name, &[events], &[going_on(&[6])]));
    }

    #[rstest]
    #[case::the_same_texts(|_: &mut [Event]| {}, &[7], "samples that begin alike")]
    #[case::without_logits(|events: &mut [Event]| {
        for event in events {
            if let Event::Probe(it) = event {
                it.rows.iter_mut().for_each(|row| row.logits.clear());
            }
        }
    }, &[6], "samples that begin alike")]
    #[case::other_parameters(|events: &mut [Event]| {
        state_at(events, Moment::Start).tensors[0].digest = "t:other".into();
    }, &[6], "the base parameters of the two runs differ")]
    fn where_nothing_can_be_compared_it_is_not_judged(
        #[case] change: fn(&mut [Event]),
        #[case] against: &[u32],
        #[case] why: &str,
    ) {
        let mut events = going_on(&[7]);
        change(&mut events);
        let sheet = judge_runs(RULE.name, &[events], &[going_on(against)]);
        assert!(sheet.broken.is_none(), "{sheet:?}");
        assert!(sheet.missing.as_deref().is_some_and(|found| found.contains(why)), "{sheet:?}");
    }
}
