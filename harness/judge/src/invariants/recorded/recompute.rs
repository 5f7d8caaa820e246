//! `loop/recompute`: activation checkpointing repeats the forward that it stands for.

use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule, TraceRule};

pub(crate) static RULE: Rule = Rule {
    name: "loop/recompute",
    says: "a segment under activation checkpointing does the same when the backward pass repeats it",
    verifies: "For segments of `torch.utils.checkpoint.checkpoint`: one that draws random numbers begins its repetition \
               with the random state of its forward, and a few values of its output are the same again.",
    does_not_verify: "More than the first few hundred segments. Checkpointing by other functions. Outputs of \
                      repetitions that torch ends early, as it does without reentrance.",
    kind: Kind::Trace(|_| Box::new(Recompute)),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::State,
    needs: &[Fact::Observed],
};

struct Recompute;

impl TraceRule for Recompute {
    fn see(&mut self, _line: &Line, _sheet: &mut Sheet) {}

    fn finish(&mut self, last: &Line, sheet: &mut Sheet) {
        let Event::End(end) = &last.event else { return };
        let Some(recomputed) = end.recomputed else { return };
        sheet.compared += recomputed.repeated.saturating_sub(recomputed.differ);
        sheet.check(recomputed.differ == 0, last, || Difference {
            expected: format!("the same forward again for all {} segments that were repeated", recomputed.repeated),
            actual: format!("another one for {}", recomputed.differ),
            component: Component::Checkpointing,
            cause: "the backward pass differentiates another forward than the one that gave the loss: preserve_rng_state \
                    is off, or the segment draws from a generator of its own or changes what it reads"
                .into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use traintrue_protocol::trace::since::Recomputed;

    use super::*;
    use crate::invariants::recorded::testing::*;
    use crate::testing::{breaks, judge};

    fn ended(recomputed: Option<Recomputed>) -> Vec<Event> {
        let mut events = clean(Shape::default());
        if let Some(Event::End(it)) = events.last_mut() {
            it.recomputed = recomputed;
        }
        events
    }

    #[test]
    fn the_same_again_holds_and_another_forward_breaks() {
        let sheet = judge(RULE.name, &ended(Some(Recomputed { repeated: 60, differ: 0 })));
        assert!(sheet.broken.is_none() && sheet.compared > 59, "{sheet:?}");
        assert_eq!(judge(RULE.name, &ended(None)).compared, 0);
        let found =
            breaks(judge(RULE.name, &ended(Some(Recomputed { repeated: 60, differ: 9 }))), "checkpointing");
        assert!(found.contains("preserve_rng_state is off"), "{found}");
    }
}
