//! `seed/decides`: runs of two seeds take the samples in two orders, and draw two sets of masks.

use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line, TraceError, TraceReader};
use traintrue_protocol::vocabulary::Component;

use crate::finding::{Difference, Sheet};
use crate::invariants::training::order::FEWEST;
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

/// Runs of two seeds differ where the seed decides.
pub static RULE: Rule = Rule {
    name: "seed/decides",
    says: "two seeds give two orders of the samples, and two sets of dropout masks",
    verifies: "Of two plans that differ in their seed: with `shuffle`, the first epoch's samples come in two orders; and where \
               the trainer tells what its dropouts did, no mask of the first micro-batch is the same.",
    does_not_verify: "Initial weights, which a trainer may load. That one seed gives one run (determinism/repeat).",
    kind: Kind::Pair(judge),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Repeat,
    needs: &[Fact::Plan],
};

/// What a seed decides in the beginning of a run.
#[derive(Default)]
struct Drawn {
    seed: u64,
    shuffles: bool,
    samples: Vec<u64>,
    masks: Vec<String>,
    first: Option<Line>,
}

fn judge(run: &RunEvidence, against: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    let (run, against) = (drawn(run)?, drawn(against)?);
    if run.seed == against.seed {
        sheet.cannot("both runs have one seed");
        return Ok(());
    }
    let Some(line) = &run.first else {
        sheet.missing("micro-batches");
        return Ok(());
    };
    let mut same = |is_same: bool, what: &str, component| {
        sheet.check(!is_same, line, || Difference {
            expected: format!("another {what} under seed {} than under {}", run.seed, against.seed),
            actual: format!("the same {what}"),
            component,
            cause: format!("the plan's seed does not decide the {what}: check which generator draws it, and who seeds that"),
        });
    };
    if run.shuffles && run.samples.len().min(against.samples.len()) >= FEWEST {
        same(run.samples == against.samples, "order of the samples", Component::Seeding);
    }
    if let Some((one, other)) = run.masks.first().zip(against.masks.first()) {
        same(one == other, "mask of the first dropout", Component::Seeding);
    }
    Ok(())
}

/// Reads the first epoch of a run.
fn drawn(run: &RunEvidence) -> Result<Drawn, TraceError> {
    let mut drawn = Drawn::default();
    let Some(path) = run.segments.first() else { return Ok(drawn) };
    for line in TraceReader::open(path)? {
        let line = line?;
        match &line.event {
            Event::Run(it) => (drawn.seed, drawn.shuffles) = (it.plan.seed, it.plan.data.shuffle),
            Event::MicroBatch(it) if it.epoch == 0 => {
                drawn.samples.extend(it.samples.iter().flatten());
                if drawn.first.is_none() {
                    drawn.masks.extend(it.dropout.iter().flatten().map(|mask| mask.digest.clone()));
                    drawn.first = Some(line);
                }
            }
            Event::MicroBatch(_) => break,
            _ => {}
        }
    }
    Ok(drawn)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn seeded(seed: u64, turn: u64) -> Vec<Event> {
        let mut plan = plan();
        plan.seed = seed;
        plan.data.samples = vec![vec![9; 4]; 17];
        let mut events = segment(&plan, None, None);
        for event in &mut events {
            if let Event::MicroBatch(it) = event {
                it.samples.iter_mut().flatten().for_each(|id| *id = (*id * turn) % 17);
            }
        }
        events
    }

    #[test]
    fn two_seeds_in_two_orders_hold() {
        holds(&judge_runs(RULE.name, &[seeded(7, 3)], &[seeded(8, 5)]));
    }

    #[test]
    fn two_seeds_in_one_order_break() {
        breaks(judge_runs(RULE.name, &[seeded(7, 3)], &[seeded(8, 3)]), "seeding");
    }

    #[test]
    fn two_runs_of_one_seed_are_not_judged() {
        let sheet = judge_runs(RULE.name, &[seeded(7, 3)], &[seeded(7, 3)]);
        assert!(sheet.broken.is_none() && sheet.missing.is_some());
    }
}
