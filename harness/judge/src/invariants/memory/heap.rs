//! `memory/heap-flat`: the memory that tensors are in holds the same bytes at the same phase of the last two epochs.

use std::collections::BTreeMap;

use traintrue_memory::bytes::Bytes;
use traintrue_memory::exact::{Exact, Sample, exact, phased};
use traintrue_protocol::plan::Boundary;
use traintrue_protocol::trace::event::Edge;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line, TraceError};
use traintrue_protocol::vocabulary::{Component, Lane};

use crate::finding::{Difference, Sheet};
use crate::invariants::shared::stream::Stream;
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

pub(crate) static RULE: Rule = Rule {
    name: "memory/heap-flat",
    says: "the heap, or the device, holds the same bytes at the same phase of the last two epochs",
    verifies: "heap_bytes after every update equals heap_bytes after the update at the same place of the previous \
               epoch, to the byte. Where the trace has device_in_use_bytes, tensors are on a device, and that lane is \
               compared in the place of heap_bytes. Growth is attributed to the boundary after which it appears: each \
               update, each evaluation, each checkpoint, or each epoch. The first epoch is warm-up.",
    does_not_verify: "Memory outside the counted lane, such as the heap of a trainer on a device \
                      (memory/process-flat). Memory that is allocated and freed between two boundaries. Trainers in a \
                      language whose heap is not counted.",
    kind: Kind::Run(judge),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Memory,
    needs: &[Fact::Plan],
};

/// The lanes that count tensors to the byte. A driver's tables and compiled kernels are on the heap, and come and go: the
/// heap of a trainer on a device is not compared.
const LANES: [Lane; 2] = [Lane::DeviceInUseBytes, Lane::HeapBytes];

/// The lane at one place of the run.
struct Seen {
    epoch: u64,
    at: Boundary,
    step: u64,
    bytes: u64,
    line: Line,
}

fn judge(run: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    for lane in LANES {
        let seen = samples(run, lane)?;
        if !seen.is_empty() {
            compare(lane, &seen, sheet);
            return Ok(());
        }
    }
    sheet.missing("heap_bytes or device_in_use_bytes");
    Ok(())
}

fn compare(lane: Lane, seen: &[Seen], sheet: &mut Sheet) {
    // The first epoch allocates buffers once, so it is left out.
    let warm: Vec<&Seen> = seen.iter().filter(|seen| seen.epoch > 0).collect();
    // Evaluations and checkpoints need not come at the same places of two epochs; updates do.
    let updates = warm.iter().filter(|seen| seen.at == Boundary::Update);
    let Exact { compared, differ } = exact(&phased(updates.map(|seen| (seen.epoch, seen.step, seen.bytes))));
    if compared == 0 {
        sheet.cannot("fewer than two whole epochs of memory samples after the first");
        return;
    }
    let place = |step| warm.iter().find(|seen| seen.at == Boundary::Update && seen.step == step);
    match differ.and_then(|(earlier, later)| Some((earlier, later, place(later.step)?))) {
        None => sheet.compared += compared,
        Some((earlier, ..)) if begins_late(seen, earlier.epoch) => sheet.cannot(
            "the memory differs, but the first evaluation or checkpoint is in the last two epochs: what it allocates \
             once is warm-up",
        ),
        Some((earlier, later, broke)) => {
            sheet.compared += compared - 1;
            sheet.check(false, &broke.line, || describe(lane, &warm, earlier, later));
        }
    }
}

/// Whether the first evaluation or checkpoint came in this epoch or later. Buffers that it allocates once are not a
/// leak.
fn begins_late(seen: &[Seen], epoch: u64) -> bool {
    [Boundary::Evaluation, Boundary::Checkpoint]
        .into_iter()
        .any(|at| seen.iter().find(|seen| seen.at == at).is_some_and(|first| first.epoch >= epoch))
}

fn samples(run: &RunEvidence, lane: Lane) -> Result<Vec<Seen>, TraceError> {
    let (mut stream, mut seen, mut epoch) = (Stream::of(&run.segments), Vec::new(), 0);
    while let Some(line) = stream.next()? {
        match &line.event {
            Event::Epoch(it) if it.edge == Edge::Begin => epoch = it.epoch,
            Event::Memory(it) => {
                if let Some(bytes) = it.lanes.get(lane.name()).copied().flatten() {
                    seen.push(Seen { epoch, at: it.at, step: it.step, bytes, line });
                }
            }
            _ => {}
        }
    }
    Ok(seen)
}

fn describe(lane: Lane, seen: &[&Seen], earlier: Sample, later: Sample) -> Difference {
    let grown = later.held.abs_diff(earlier.held);
    let more = later.held > earlier.held;
    let (component, when) = if more { main_leak(seen) } else { (Component::Heap, "each epoch") };
    let holder = if lane == Lane::HeapBytes { "the heap" } else { "the device" };
    Difference {
        expected: format!(
            "{} B of {lane} after update {}, as at this place of epoch {}",
            earlier.held, later.step, earlier.epoch
        ),
        actual: format!("{} B", later.held),
        component,
        cause: if more {
            format!(
                "{} more than one epoch earlier, kept {when}: {holder} holds it, so something in the process still \
                 references it",
                Bytes(grown)
            )
        } else {
            format!("{} less than one epoch earlier: memory has not settled yet", Bytes(grown))
        },
    }
}

/// The boundary after which memory grows most, as a component and in words.
///
/// From update to update it grows by what an update keeps, and by more if an evaluation, a checkpoint or an
/// epoch's edge is between them. What a boundary allocates only for itself is freed by the next update.
fn main_leak(seen: &[&Seen]) -> (Component, &'static str) {
    let mut grown: BTreeMap<Component, (i64, i64)> = BTreeMap::new();
    let (mut last, mut between): (Option<&Seen>, Option<Boundary>) = (None, None);
    for &seen in seen {
        if seen.at != Boundary::Update {
            // Evaluations and checkpoints often fall on an epoch's edge; the edge then explains more.
            between = between.filter(|at| *at == Boundary::Epoch).or(Some(seen.at));
            continue;
        }
        if let Some(last) = last.replace(seen) {
            let (pairs, bytes) = grown.entry(component(between)).or_default();
            *pairs += 1;
            *bytes += seen.bytes as i64 - last.bytes as i64;
        }
        between = None;
    }
    let pairs: i64 = grown.values().map(|(pairs, _)| pairs).sum();
    let (plain, bytes) = grown.remove(&EACH_UPDATE).unwrap_or_default();
    // Growth that happens at every update also happens between two updates with an epoch's edge in between, so it is
    // subtracted there.
    let an_update = bytes.checked_div(plain).unwrap_or(0);
    let others = grown.into_iter().map(|(name, (pairs, bytes))| (bytes - an_update * pairs, name));
    let most = others.chain([(an_update * pairs, EACH_UPDATE)]).max();
    let name = most.map_or(EACH_UPDATE, |(_, name)| name);
    match name {
        EACH_EPOCH => (EACH_EPOCH, "at each epoch's edge"),
        EACH_EVALUATION => (EACH_EVALUATION, "at each evaluation"),
        EACH_CHECKPOINT => (EACH_CHECKPOINT, "at each checkpoint"),
        _ => (EACH_UPDATE, "at each update"),
    }
}

const EACH_UPDATE: Component = Component::KeptEachUpdate;
const EACH_EPOCH: Component = Component::KeptEachEpoch;
const EACH_EVALUATION: Component = Component::KeptEachEvaluation;
const EACH_CHECKPOINT: Component = Component::KeptEachCheckpoint;

/// The component to blame for growth between two updates with this boundary in between.
fn component(between: Option<Boundary>) -> Component {
    match between {
        Some(Boundary::Epoch) => EACH_EPOCH,
        Some(Boundary::Evaluation) => EACH_EVALUATION,
        Some(Boundary::Checkpoint) => EACH_CHECKPOINT,
        _ => EACH_UPDATE,
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::invariants::memory::beside_a_device;
    use crate::testing::*;
    use traintrue_protocol::trace::event::{Epoch, Memory};

    /// Four epochs of five updates, with an evaluation after each third: the bytes are what `held` says.
    fn sampled(held: impl Fn(Boundary, u64, u64) -> u64) -> Vec<Event> {
        let mut events = vec![whole().remove(0)];
        let add = |events: &mut Vec<Event>, at, epoch, step| {
            let lanes = [(Lane::HeapBytes.name().to_owned(), Some(held(at, epoch, step)))].into();
            events.push(Event::Memory(Memory { at, step, lanes }));
        };
        for epoch in 0..4 {
            events.push(Event::Epoch(Epoch::begin(epoch)));
            add(&mut events, Boundary::Epoch, epoch, 5 * epoch);
            for step in 5 * epoch + 1..=5 * epoch + 5 {
                add(&mut events, Boundary::Update, epoch, step);
                if step % 5 == 3 {
                    add(&mut events, Boundary::Evaluation, epoch, step);
                }
            }
        }
        events
    }

    #[rstest]
    #[case::flat(|_, _, _| 1000)]
    #[case::warming_up(|_, epoch, step| if epoch == 0 { 100 * step } else { 1000 })]
    #[case::a_batch_held_until_the_next(|_, _, step| 1000 + 64 * (step % 5))]
    #[case::held_during_evaluations(|at, _, _| if at == Boundary::Evaluation { 5000 } else { 1000 })]
    fn a_heap_that_comes_back_is_flat(#[case] held: fn(Boundary, u64, u64) -> u64) {
        holds(&judge_runs(RULE.name, &[sampled(held)], &[]));
    }

    #[rstest]
    #[case::a_byte(|_, epoch, _| 1000 + epoch, "kept-each-epoch")]
    #[case::each_update(|_, _, step| 1000 + 64 * step, "kept-each-update")]
    #[case::each_update_beside_a_borrowing_evaluation(|at, _, step| {
        1000 + 64 * step + if at == Boundary::Evaluation { 70_000 } else { 0 }
    }, "kept-each-update")]
    #[case::each_evaluation(|at, _, step| {
        1000 + 48 * ((step + 2) / 5 - u64::from(at == Boundary::Update && step % 5 == 3))
    }, "kept-each-evaluation")]
    fn what_grows_breaks_and_is_attributed_to_its_boundary(
        #[case] held: fn(Boundary, u64, u64) -> u64,
        #[case] component: &str,
    ) {
        breaks(judge_runs(RULE.name, &[sampled(held)], &[]), component);
    }

    #[test]
    fn a_first_evaluation_in_the_last_two_epochs_is_warm_up() {
        let mut events = sampled(|_, _, step| 1000 + if step >= 13 { 512 } else { 0 });
        events.retain(
            |event| !matches!(event, Event::Memory(it) if it.at == Boundary::Evaluation && it.step < 13),
        );
        let sheet = judge_runs(RULE.name, &[events], &[]);
        assert!(sheet.broken.is_none() && sheet.missing.is_some_and(|why| why.contains("warm-up")));
        assert_eq!(sheet.compared, 0, "a difference that cannot be judged is not a pass");
    }

    #[test]
    fn two_epochs_are_too_few() {
        let mut events = sampled(|_, _, _| 1000);
        let third = position(&events, |event| matches!(event, Event::Epoch(it) if it.epoch == 2));
        events.truncate(third);
        let sheet = judge_runs(RULE.name, &[events], &[]);
        assert!(sheet.compared == 0 && sheet.missing.is_some_and(|why| why.starts_with("fewer than two")));
    }

    #[rstest]
    #[case::the_heap_of_a_driver(|_| 14, None)]
    #[case::a_tensor_on_the_device(|step| 14 + 64 * step, Some("the device holds it"))]
    fn on_a_device_its_own_lane_is_compared(#[case] held: fn(u64) -> u64, #[case] cause: Option<&str>) {
        let events = beside_a_device(sampled(|_, _, step| 1000 + 48 * (step % 7)), held);
        let sheet = judge_runs(RULE.name, &[events], &[]);
        match cause {
            None => holds(&sheet),
            Some(cause) => {
                let found = breaks(sheet, "kept-each-update");
                assert!(found.contains(cause), "{found}");
            }
        }
    }
}
