//! `memory/back-to-baseline`: a model that is unloaded leaves nothing behind.

use traintrue_memory::bytes::Bytes;
use traintrue_protocol::plan::Boundary;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line, TraceError};
use traintrue_protocol::vocabulary::{Component, Lane};

use crate::finding::{Difference, Sheet};
use crate::invariants::shared::stream::Stream;
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

pub(crate) static RULE: Rule = Rule {
    name: "memory/back-to-baseline",
    says: "after each model is loaded, used and unloaded, the same number of bytes is held",
    verifies: "heap_bytes after every unload equals that after the first, which includes what is allocated once. Where \
               the trace has device_in_use_bytes, tensors are on a device, and that lane is compared in its place. \
               What stays is attributed. If it grows with each model, a reference to each is kept. If it follows the \
               last model's size, a cache was cleared while that model was still in use.",
    does_not_verify: "What the first unload leaves behind, unless later ones leave another amount: use models of \
                      different sizes. What a pool holds unused (device_reserved_bytes).",
    kind: Kind::Run(judge),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Memory,
    needs: &[Fact::Plan],
};

/// The lane of a device first: a driver's tables and compiled kernels stay on the heap.
const LANES: [Lane; 2] = [Lane::DeviceInUseBytes, Lane::HeapBytes];

/// A lane after the loads and the unloads of a run.
#[derive(Default)]
struct Held {
    loaded: Vec<u64>,
    unloaded: Vec<(Line, u64)>,
}

fn judge(run: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    for lane in LANES {
        let held = held(run, lane)?;
        let Some(((_, baseline), later)) = held.unloaded.split_first() else { continue };
        // The first unload is the baseline, because the first model also allocates what stays for good.
        if later.is_empty() {
            sheet.cannot("only one model was unloaded; the comparison needs two");
        } else if !held.loaded.iter().any(|bytes| bytes > baseline) {
            sheet.cannot(&format!("{lane} is no higher with a model loaded than after its unload"));
        } else {
            compare(lane, *baseline, later, sheet);
        }
        break;
    }
    if sheet.compared == 0 {
        sheet.missing("heap_bytes or device_in_use_bytes after an unload");
    }
    Ok(())
}

fn held(run: &RunEvidence, lane: Lane) -> Result<Held, TraceError> {
    let (mut stream, mut held) = (Stream::of(&run.segments), Held::default());
    while let Some(line) = stream.next_where(|event| matches!(event, Event::Memory(_)))? {
        let Event::Memory(it) = &line.event else { continue };
        let Some(bytes) = it.lanes.get(lane.name()).copied().flatten() else { continue };
        match it.at {
            Boundary::Load => held.loaded.push(bytes),
            Boundary::Unload => held.unloaded.push((line, bytes)),
            _ => {}
        }
    }
    Ok(held)
}

fn compare(lane: Lane, baseline: u64, later: &[(Line, u64)], sheet: &mut Sheet) {
    let left: Vec<u64> = later.iter().map(|(_, bytes)| *bytes).collect();
    for (number, (line, bytes)) in later.iter().enumerate() {
        sheet.check(*bytes == baseline, line, || {
            let (component, cause) = cause(lane, baseline, &left);
            Difference {
                expected: format!("{baseline} B of {lane} after model {}, as after the first", number + 2),
                actual: format!("{bytes} B"),
                component,
                cause,
            }
        });
    }
}

/// What keeps the memory, by how it comes and goes from model to model.
fn cause(lane: Lane, baseline: u64, left: &[u64]) -> (Component, String) {
    let most = left.iter().map(|bytes| bytes.abs_diff(baseline)).max().unwrap_or(0);
    let before = std::iter::once(&baseline).chain(left);
    if before.zip(left).all(|(before, after)| after >= before) {
        let cause = format!(
            "{lane} grows with each model, by {} in all: something keeps a reference to each model",
            Bytes(most)
        );
        (Component::KeptReference, cause)
    } else {
        let cause = format!(
            "{lane} follows the size of the model that was unloaded last, by up to {}: the cache was cleared while \
             that model was still in use, or something of it is referenced until the next one takes its place",
            Bytes(most)
        );
        (Component::CacheOrder, cause)
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::*;
    use traintrue_protocol::trace::event::Memory;

    /// Four models are loaded and unloaded in turn; `left` bytes of a lane stay after each.
    fn cycles(lane: &str, loaded: u64, left: [u64; 4]) -> Vec<Event> {
        let mut events = vec![whole().remove(0)];
        for bytes in left {
            for (at, bytes) in [(Boundary::Load, loaded), (Boundary::Unload, bytes)] {
                let lanes = [(lane.to_owned(), Some(bytes))].into();
                events.push(Event::Memory(Memory { at, step: 0, lanes }));
            }
        }
        events
    }

    #[rstest]
    #[case("heap_bytes")]
    #[case("device_in_use_bytes")]
    fn what_comes_back_to_the_byte_holds(#[case] lane: &str) {
        let sheet = judge_runs(RULE.name, &[cycles(lane, 9000, [1000; 4])], &[]);
        assert_eq!(sheet.compared, 3);
        holds(&sheet);
    }

    #[rstest]
    #[case::one_byte([1000, 1000, 1000, 1001], "kept-reference", "by 1 B in all")]
    #[case::each([1000, 1400, 1480, 1880], "kept-reference", "by 880 B in all")]
    #[case::the_last([4000, 1000, 4000, 1000], "cache-order", "by up to 2.9 KiB")]
    fn what_stays_is_attributed(#[case] left: [u64; 4], #[case] component: &str, #[case] said: &str) {
        for lane in LANES {
            let found = breaks(judge_runs(RULE.name, &[cycles(lane.name(), 9000, left)], &[]), component);
            assert!(found.starts_with(lane.name()) && found.contains(said), "{found}");
        }
    }

    #[test]
    fn nothing_that_was_loaded_is_not_judged() {
        let sheet = judge_runs(RULE.name, &[cycles("heap_bytes", 1000, [1000; 4])], &[]);
        assert!(sheet.compared == 0 && sheet.missing.is_some_and(|why| why.contains("no higher")));
        let sheet = judge_runs(RULE.name, &[whole()], &[]);
        assert!(sheet.compared == 0 && sheet.missing.is_some());
    }
}
