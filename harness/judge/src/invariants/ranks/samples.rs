//! `ranks/each-sample-once`: the ranks share an epoch's samples out, and no two train the same.

use std::collections::{BTreeMap, BTreeSet};

use traintrue_protocol::plan::Plan;
use traintrue_protocol::trace::event::{Edge, MicroBatch};
use traintrue_protocol::trace::{Event, Line, TraceError};
use traintrue_protocol::vocabulary::Component;

use super::walk::Walk;
use crate::arithmetic;
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

/// Shards are disjoint, and make up the epoch.
pub static RULE: Rule = Rule {
    name: "ranks/each-sample-once",
    says: "the ranks share the samples of an epoch out, and no two train the same",
    verifies: "In every epoch no sample id is trained on two ranks, and the ranks together train as many samples as the plan's \
               micro-batches that reach every rank.",
    does_not_verify: "The order of the samples (order/as-planned), and what one rank alone loses or repeats \
                      (ledger/every-sample-once). Of recorded ranks: shares that overlap by less than an epoch, because \
                      samplers fill shares up and some draw at random. Theirs are wrong where two models get the same \
                      rows in the same order, by what is in them.",
    kind: Kind::Ranks(judge),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Samples,
    needs: &[],
};

/// The samples of one epoch.
#[derive(Default)]
struct Epoch {
    number: u64,
    /// The rank that trained a sample first.
    taken: BTreeMap<u64, usize>,
    /// How many of each rank's samples another rank had already.
    repeated: BTreeMap<usize, u64>,
    /// The first that was.
    first: Option<((usize, usize), Line, u64)>,
}

fn judge(ranks: &[&RunEvidence], _: Option<&RunEvidence>, sheet: &mut Sheet) -> Result<(), TraceError> {
    let Some(mut walk) = Walk::of(ranks)? else { return Ok(()) };
    if walk.opening.recorded.is_some() {
        return in_one_order(walk, sheet);
    }
    let expected = of_all_ranks(&walk.opening.plan);
    let mut epoch = Epoch::default();
    while let Some(turns) = walk.next()? {
        let ended = turns.iter().find_map(|turn| {
            let ends = |line: &&Line| matches!(&line.event, Event::Epoch(it) if it.edge == Edge::End);
            turn.lines.iter().find(ends).map(|line| (turn.place, line.clone()))
        });
        // The end of an epoch comes before the micro-batches of the turn that it begins.
        if let Some((place, line)) = &ended {
            epoch.ends(expected, *place, line, sheet);
        }
        for turn in &turns {
            for (line, it) in turn.micro_batches() {
                if it.epoch != epoch.number {
                    epoch.tell(sheet);
                    epoch = Epoch { number: it.epoch, ..Epoch::default() };
                }
                let Some(samples) = &it.samples else {
                    sheet.blind("samples");
                    return Ok(());
                };
                samples.iter().for_each(|&id| epoch.take(id, turn.place, line));
            }
        }
        if sheet.broken.is_some() {
            return Ok(());
        }
    }
    epoch.tell(sheet);
    Ok(())
}

/// The samples of the micro-batches that reach every rank.
fn of_all_ranks(plan: &Plan) -> u64 {
    let (batches, world) = (arithmetic::batches(&plan.data), plan.train.world.max(1));
    let samples = plan.data.samples.len() as u64;
    if plan.data.drop_last || batches % world != 0 {
        batches / world * world * plan.data.batch
    } else {
        samples
    }
}

impl Epoch {
    fn take(&mut self, id: u64, place: (usize, usize), line: &Line) {
        let by = *self.taken.entry(id).or_insert(place.0);
        if by != place.0 {
            *self.repeated.entry(place.0).or_default() += 1;
            self.first.get_or_insert_with(|| (place, line.clone(), id));
        }
    }

    /// What the ranks trained twice.
    fn tell(&self, sheet: &mut Sheet) {
        let Some((place, line, id)) = &self.first else {
            sheet.compared += self.taken.len() as u64;
            return;
        };
        let (rank, by) = (place.0, self.taken[id]);
        let times = self.repeated[&rank];
        sheet.check_on(*place, false, line, || Difference {
            expected: format!("each sample of epoch {} on one rank", self.number),
            actual: format!("sample {id} on ranks {by} and {rank}, and {times} samples of rank {rank} elsewhere too"),
            component: Component::Data,
            cause: format!(
                "{times} samples of rank {rank} are trained on another rank as well: check that the sampler knows rank and \
                 world size, and what it fills the last batches up with"
            ),
        });
    }

    fn ends(&self, expected: u64, place: (usize, usize), line: &Line, sheet: &mut Sheet) {
        let found = self.taken.len() as u64;
        // Samples that were trained twice are missing elsewhere: that is their finding.
        if self.first.is_some() || found == 0 {
            return;
        }
        sheet.check_on(place, found == expected, line, || Difference {
            expected: format!("{expected} samples on all ranks in epoch {}", self.number),
            actual: found.to_string(),
            component: Component::Data,
            cause: "the ranks together do not train the samples that reach all of them: check the sampler's world size"
                .into(),
        });
    }
}

/// Fewer samples than this may be in one order by chance, or because there are no more.
const FEWEST: usize = 16;

/// Whether the models of two recorded ranks get the same samples in the same order, as where nobody shares them out.
fn in_one_order(mut walk: Walk, sheet: &mut Sheet) -> Result<(), TraceError> {
    let mut taken: Vec<Taken> = Vec::new();
    while let Some(turns) = walk.next()? {
        taken.resize_with(turns.len(), Taken::default);
        for (turn, taken) in turns.iter().zip(&mut taken) {
            turn.micro_batches().for_each(|(_, it)| taken.take(it));
        }
        let enough = taken.iter().all(|taken| taken.rows.len() >= FEWEST);
        let Some((first, others)) = taken.split_first().filter(|_| enough) else { continue };
        for (turn, other) in turns.iter().skip(1).zip(others) {
            let Some(line) = turn.lines.first() else { continue };
            let rank = turn.place.0;
            sheet.check_on(turn.place, !first.is_as(other), line, || Difference {
                expected: format!("other samples on rank {rank} than on rank 0"),
                actual: format!("the same {} samples in the same order", first.rows.len().min(other.rows.len())),
                component: Component::Data,
                cause: "every rank trains the same samples, so that W ranks learn what one would: nothing shares them out, as a \
                        DistributedSampler or accelerate's prepare() does"
                    .into(),
            });
        }
        return Ok(());
    }
    Ok(())
}

/// What the model of one rank was given so far, by what is in it, and what its loader gave.
#[derive(Default)]
struct Taken {
    rows: Vec<u64>,
    samples: Vec<u64>,
}

impl Taken {
    fn take(&mut self, it: &MicroBatch) {
        if let Some(content) = &it.content {
            self.rows.extend(content);
            self.samples.extend(it.samples.iter().flatten());
        }
    }

    /// Whether both are the same. One index may be of two datasets, or of a batch of which each rank takes its slice; and
    /// equal rows may be noise of one seed.
    fn is_as(&self, other: &Self) -> bool {
        let distinct = self.rows.iter().collect::<BTreeSet<_>>().len() >= FEWEST;
        let begins = |one: &[u64], two: &[u64]| one.iter().zip(two).all(|(one, two)| one == two);
        distinct && begins(&self.rows, &other.rows) && begins(&self.samples, &other.samples)
    }
}
