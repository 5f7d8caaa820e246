//! `checkpointing/lower-peak`: recomputing activations lowers the memory peak of the first forward and backward.

use traintrue_protocol::plan::Boundary;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line, TraceError};
use traintrue_protocol::vocabulary::{Component, Lane};

use crate::finding::{Difference, Sheet};
use crate::invariants::shared::stream::Stream;
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

pub(crate) static RULE: Rule = Rule {
    name: "checkpointing/lower-peak",
    says: "with activation checkpointing the first forward and backward peak lower than without",
    verifies: "heap_peak_bytes at the first forward of the run is more than 2 % below that of the run without \
               checkpointing. Two runs of one kind may differ by 2 %, because their plans are on the heap too.",
    does_not_verify: "How much checkpointing should save. Memory outside the process's own heap.",
    kind: Kind::Pair(judge),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Memory,
    needs: &[Fact::Plan],
};

fn judge(run: &RunEvidence, against: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    let (Some((line, peak)), Some((_, other))) = (first_peak(run)?, first_peak(against)?) else {
        sheet.missing("heap_peak_bytes at the first forward");
        return Ok(());
    };
    let below = other - other / 50;
    sheet.check(peak < below, &line, || Difference {
        expected: format!("a peak below {below} bytes; without checkpointing it is {other}"),
        actual: format!("{peak} bytes"),
        component: Component::Checkpointing,
        cause:
            "checkpointing does not lower the peak: check that the layers recompute their activations and that no \
             key-value cache is allocated"
                .into(),
    });
    Ok(())
}

fn first_peak(run: &RunEvidence) -> Result<Option<(Line, u64)>, TraceError> {
    let here = |event: &Event| matches!(event, Event::Memory(it) if it.at == Boundary::Forward);
    let line = Stream::of(&run.segments).next_where(here)?;
    Ok(line.and_then(|line| match &line.event {
        Event::Memory(it) => {
            it.lanes.get(Lane::HeapPeakBytes.name()).copied().flatten().map(|peak| (line.clone(), peak))
        }
        _ => None,
    }))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::*;

    fn peaking(lane: &str, bytes: u64) -> Vec<Event> {
        let mut events = whole();
        events.insert(1, memory(lane, bytes));
        events
    }

    #[test]
    fn a_lower_peak_holds_and_one_that_is_not_lower_breaks() {
        holds(&judge_runs(
            RULE.name,
            &[peaking(Lane::HeapPeakBytes.name(), 900)],
            &[peaking(Lane::HeapPeakBytes.name(), 1000)],
        ));
        breaks(
            judge_runs(
                RULE.name,
                &[peaking(Lane::HeapPeakBytes.name(), 1000)],
                &[peaking(Lane::HeapPeakBytes.name(), 1000)],
            ),
            "checkpointing",
        );
    }

    #[test]
    fn a_trace_without_the_lane_cannot_be_judged() {
        assert!(
            judge_runs(RULE.name, &[peaking("rss_bytes", 1)], &[peaking(Lane::HeapPeakBytes.name(), 2)])
                .missing
                .is_some()
        );
    }
}
