//! `memory/estimate`: the measured heap peak agrees with the estimate within 10 %.

use traintrue_protocol::trace::event::Memory;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line, TraceError};
use traintrue_protocol::vocabulary::{Component, Lane};

use crate::finding::{Difference, Sheet};
use crate::invariants::shared::stream::Stream;
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

pub(crate) static RULE: Rule = Rule {
    name: "memory/estimate",
    says: "the heap's peak agrees within 10 % with the estimate made before the micro-batch",
    verifies: "Wherever the trace has estimate_bytes beside heap_peak_bytes, the two differ by at most 10 % of the \
               peak.",
    does_not_verify: "Where the estimate comes from. What a device or its allocator reserves beyond the heap.",
    kind: Kind::Run(judge),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Memory,
    needs: &[Fact::Plan],
};

/// A lane of trainers that estimate their own memory; the protocol does not define it.
const ESTIMATED: &str = "estimate_bytes";

fn judge(run: &RunEvidence, sheet: &mut Sheet) -> Result<(), TraceError> {
    let mut stream = Stream::of(&run.segments);
    while let Some(line) = stream.next_where(|event| matches!(event, Event::Memory(_)))? {
        if let Event::Memory(memory) = &line.event {
            compare(memory, &line, sheet);
        }
    }
    if sheet.compared == 0 {
        sheet.missing("estimate_bytes beside heap_peak_bytes");
    }
    Ok(())
}

fn compare(memory: &Memory, line: &Line, sheet: &mut Sheet) {
    let lane = |name: &str| memory.lanes.get(name).copied().flatten();
    let (Some(measured), Some(predicted)) = (lane(Lane::HeapPeakBytes.name()), lane(ESTIMATED)) else {
        return;
    };
    sheet.check(predicted.abs_diff(measured) <= measured / 10, line, || Difference {
        expected: format!("a peak within 10 % of the estimate, {predicted} bytes"),
        actual: format!("{measured} bytes"),
        component: Component::Estimate,
        cause: if predicted < measured {
            "the estimate is too low: check the rows per sample, the key-value cache and the activations"
        } else {
            "the estimate is too high: it counts memory that is not allocated, or that is freed before the peak; or training keeps \
             less of its graph than its gradients need (detach)"
        }
        .into(),
    });
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::*;
    use traintrue_protocol::plan::Boundary;

    fn run(lanes: &[(&str, u64)]) -> Sheet {
        let mut events = whole();
        let lanes = lanes.iter().map(|&(lane, bytes)| (lane.to_owned(), Some(bytes))).collect();
        events.insert(1, Event::Memory(Memory { at: Boundary::Forward, step: 0, lanes }));
        judge_runs(RULE.name, &[events], &[])
    }

    #[rstest]
    #[case(900)]
    #[case(1000)]
    #[case(1100)]
    fn a_prediction_within_a_tenth_holds(#[case] predicted: u64) {
        holds(&run(&[(Lane::HeapPeakBytes.name(), 1000), (ESTIMATED, predicted)]));
    }

    #[rstest]
    #[case(899, "the estimate is too low")]
    #[case(0, "the estimate is too low")]
    #[case(1101, "the estimate is too high")]
    #[case(u64::MAX, "the estimate is too high")]
    fn a_prediction_further_off_breaks(#[case] predicted: u64, #[case] cause: &str) {
        let found = breaks(run(&[(Lane::HeapPeakBytes.name(), 1000), (ESTIMATED, predicted)]), "estimate");
        assert!(found.contains(cause), "{found}");
    }

    #[rstest]
    #[case(&[(Lane::HeapPeakBytes.name(), 1000)])]
    #[case(&[(ESTIMATED, 1000)])]
    #[case(&[])]
    fn a_trace_without_both_lanes_cannot_be_judged(#[case] lanes: &[(&str, u64)]) {
        let sheet = run(lanes);
        assert!(sheet.missing.is_some() && sheet.compared == 0);
    }
}
