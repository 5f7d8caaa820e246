//! `memory/estimate`: what memory was predicted to be needed is what was needed, within a tenth.

use traintrue_protocol::trace::event::Memory;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line, TraceError};
use traintrue_protocol::vocabulary::Component;

use crate::finding::{Difference, Sheet};
use crate::invariants::shared::stream::Stream;
use crate::rule::{Compares, Kind, Rank, Rule, RunEvidence};

pub(crate) static RULE: Rule = Rule {
    name: "memory/estimate",
    says: "the heap's peak is what was predicted before the micro-batch, within a tenth",
    verifies: "Wherever the trace has estimate_bytes beside heap_peak_bytes, the two differ by at most a tenth of the peak.",
    does_not_verify: "Where the prediction comes from, and what a device or its allocator reserves beyond the heap.",
    kind: Kind::Run(judge),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Memory,
    needs: &[Fact::Plan],
};

const MEASURED: &str = "heap_peak_bytes";
const PREDICTED: &str = "estimate_bytes";

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
    let (Some(measured), Some(predicted)) = (lane(MEASURED), lane(PREDICTED)) else { return };
    sheet.check(predicted.abs_diff(measured) <= measured / 10, line, || Difference {
        expected: format!("a peak of {predicted} bytes within a tenth, as predicted"),
        actual: format!("{measured} bytes"),
        component: Component::Estimate,
        cause: if predicted < measured {
            "the estimate leaves something out: rows that a sample becomes, a key-value cache, or activations"
        } else {
            "the estimate counts something that is not there, or that is freed before the peak"
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
        holds(&run(&[(MEASURED, 1000), (PREDICTED, predicted)]));
    }

    #[rstest]
    #[case(899, "leaves something out")]
    #[case(0, "leaves something out")]
    #[case(1101, "counts something that is not there")]
    #[case(u64::MAX, "counts something that is not there")]
    fn a_prediction_further_off_breaks(#[case] predicted: u64, #[case] cause: &str) {
        let found = breaks(run(&[(MEASURED, 1000), (PREDICTED, predicted)]), "estimate");
        assert!(found.contains(cause), "{found}");
    }

    #[rstest]
    #[case(&[(MEASURED, 1000)])]
    #[case(&[(PREDICTED, 1000)])]
    #[case(&[])]
    fn a_trace_without_both_lanes_cannot_be_judged(#[case] lanes: &[(&str, u64)]) {
        let sheet = run(lanes);
        assert!(sheet.missing.is_some() && sheet.compared == 0);
    }
}
