//! `memory/process-flat`: the process does not grow beyond what its heap holds.

use traintrue_memory::bytes::BytesPerStep;
use traintrue_memory::series::Point;
use traintrue_memory::slope::{Slope, SlopeVerdict, judge as slope};
use traintrue_memory::timeline::{OF_THE_PROCESS, PROCESS_LIMIT};
use traintrue_protocol::plan::Boundary;
use traintrue_protocol::trace::event::Memory;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line, TraceError};
use traintrue_protocol::vocabulary::{Component, Lane};

use crate::finding::{Difference, Sheet};
use crate::invariants::shared::stream::Stream;
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

pub(crate) static RULE: Rule = Rule {
    name: "memory/process-flat",
    says: "the process does not grow by more than 4 KiB per update beyond what its heap holds",
    verifies: "The slopes of rss_bytes and device_process_bytes over the updates, judged as by `gate`. Growth that the \
               counted lane shows too (heap_bytes, device_reserved_bytes) is subtracted. The rest is in a buffer that \
               the framework does not count, or lost to fragmentation if the heap's blocks come and go. Where tensors \
               are on a device, heap_bytes may grow by 1 KiB per update.",
    does_not_verify: "Growth below the limit: 4 KiB per update over 1,000 updates are two huge pages, the resolution \
                      of a resident size. With fewer updates the slope stays undecided.",
    kind: Kind::Run(judge),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Memory,
    needs: &[Fact::Plan],
};

/// How much the heap beside a device may grow. What a driver and compiled kernels keep there comes in jumps, which are no
/// slope: a thousand updates on Mesa's software Vulkan grow by 0.1 B per update.
const HEAP_LIMIT: BytesPerStep = BytesPerStep(1024.0);

fn judge(run: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    let mut of_processes = OF_THE_PROCESS.map(|(lane, beneath)| Sampled::of(lane, Some(beneath)));
    let (mut heap, mut on_a_device) = (Sampled::of(Lane::HeapBytes, None), false);
    let mut stream = Stream::of(&run.segments);
    while let Some(line) =
        stream.next_where(|event| matches!(event, Event::Memory(it) if it.at == Boundary::Update))?
    {
        let Event::Memory(it) = &line.event else { continue };
        on_a_device |= figure(it, Lane::DeviceInUseBytes).is_some();
        of_processes.iter_mut().chain([&mut heap]).for_each(|sampled| sampled.take(it, &line));
    }
    // On a device no other rule looks at the heap: what a driver keeps on it is not the same to the byte.
    let mut seen = false;
    for sampled in of_processes.into_iter().chain(on_a_device.then_some(heap)) {
        let Some(last) = &sampled.last else { continue };
        seen = true;
        let limit = if sampled.beneath.is_some() { PROCESS_LIMIT } else { HEAP_LIMIT };
        let found = slope(&sampled.unexplained, limit);
        match found.verdict {
            SlopeVerdict::NotJudged => sheet.cannot(&format!("{}: {}", sampled.lane, found.reason)),
            verdict => {
                let within = verdict == SlopeVerdict::Within;
                sheet.check(within, last, || describe(&found, &sampled));
            }
        }
    }
    if !seen {
        sheet.missing("rss_bytes and device_process_bytes");
    }
    Ok(())
}

fn figure(it: &Memory, lane: Lane) -> Option<u64> {
    it.lanes.get(lane.name()).copied().flatten()
}

/// A lane after each update.
struct Sampled {
    lane: Lane,
    /// The counted lane whose growth explains its own, where there is one.
    beneath: Option<Lane>,
    /// What the lane beneath held at the first sample.
    base: Option<f64>,
    /// The lane, less what the lane beneath has grown by since the first sample.
    unexplained: Vec<Point>,
    /// The number of the heap's blocks at the last sample.
    blocks: Option<Option<u64>>,
    /// Whether that number changes: then the growth may be fragmentation.
    blocks_move: bool,
    last: Option<Line>,
}

impl Sampled {
    fn of(lane: Lane, beneath: Option<Lane>) -> Self {
        let (unexplained, base, blocks, last) = (Vec::new(), None, None, None);
        Self { lane, beneath, base, unexplained, blocks, blocks_move: false, last }
    }

    fn take(&mut self, it: &Memory, line: &Line) {
        let Some(bytes) = figure(it, self.lane) else { return };
        let held = self.beneath.and_then(|lane| figure(it, lane)).unwrap_or(0) as f64;
        // Only growth of the counted lane explains growth of the process. A counted lane that shrinks need not give its
        // pages back.
        let explained = (held - *self.base.get_or_insert(held)).max(0.0);
        self.unexplained.push(Point { step: it.step as f64, bytes: (bytes as f64 - explained).max(0.0) });
        let count = figure(it, Lane::HeapBlocks);
        self.blocks_move |= self.blocks.replace(count).is_some_and(|before| before != count);
        self.last = Some(line.clone());
    }
}

fn describe(found: &Slope, sampled: &Sampled) -> Difference {
    let lane = sampled.lane;
    let slope = BytesPerStep(found.slope_per_step);
    let from = found.from_step.map(|step| format!(" from update {step} on")).unwrap_or_default();
    let actual = format!("by {slope}{from}");
    let Some(beneath) = sampled.beneath else {
        return Difference {
            expected: format!("{lane} grows by at most {HEAP_LIMIT}"),
            actual,
            component: Component::KeptEachUpdate,
            cause: format!(
                "{lane} grows while the tensors are on a device: the program's own code keeps something on the host"
            ),
        };
    };
    Difference {
        expected: format!("{lane} grows by at most {PROCESS_LIMIT} more than {beneath}"),
        actual,
        component: Component::Native,
        cause: format!(
            "{lane} grows and {beneath} does not: a native buffer that the framework does not count{}",
            if sampled.blocks_move { ", or fragmentation between blocks that come and go" } else { "" }
        ),
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::invariants::memory::beside_a_device;
    use crate::testing::*;

    /// A thousand updates of a process whose lanes are what `held` says: resident, heap, blocks.
    fn sampled(held: impl Fn(u64) -> [u64; 3]) -> Vec<Event> {
        let mut events = vec![whole().remove(0)];
        for step in 1..=1000 {
            let [rss, heap, blocks] = held(step);
            let lanes = [("rss_bytes", rss), ("heap_bytes", heap), ("heap_blocks", blocks)];
            let lanes = lanes.map(|(lane, figure)| (lane.to_owned(), Some(figure))).into();
            events.push(Event::Memory(Memory { at: Boundary::Update, step, lanes }));
        }
        events
    }

    /// Whole pages of 2 MiB.
    fn pages(bytes: u64) -> u64 {
        bytes.div_ceil(2 << 20) * (2 << 20)
    }

    #[rstest]
    #[case::flat(|_| [50 << 20, 1 << 20, 9])]
    #[case::warming_up(|step: u64| [(50 << 20) + 4096 * step.min(120), 1 << 20, 9])]
    #[case::what_the_heap_holds(|step: u64| [(50 << 20) + 40_000 * step, 40_000 * step, 9])]
    fn a_process_that_does_not_grow_of_itself_holds(#[case] held: fn(u64) -> [u64; 3]) {
        holds(&judge_runs(RULE.name, &[sampled(held)], &[]));
    }

    #[rstest]
    #[case::native(|step: u64| [pages((50 << 20) + 4 * 6_800 * step), 1 << 20, 9], false)]
    #[case::fragments(|step: u64| [(50 << 20) + 27_200 * step, 1 << 20, 9 + step % 2], true)]
    fn what_grows_beside_the_heap_is_native_or_fragments(
        #[case] held: fn(u64) -> [u64; 3],
        #[case] fragments: bool,
    ) {
        let found = breaks(judge_runs(RULE.name, &[sampled(held)], &[]), "native");
        assert_eq!(found.contains("fragmentation"), fragments, "{found}");
    }

    #[rstest]
    #[case::tables_of_a_driver(|step: u64| 8_000_000 + 960 * (step % 2), None)]
    #[case::kept_on_the_host(|step: u64| 8_000_000 + 1_500 * step, Some("keeps something on the host"))]
    fn a_heap_beside_a_device_may_move_and_not_grow(
        #[case] heap: fn(u64) -> u64,
        #[case] cause: Option<&str>,
    ) {
        let events = beside_a_device(sampled(|step| [50 << 20, heap(step), 9]), |_| 14);
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
