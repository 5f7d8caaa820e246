//! `clip/global-norm`: gradients are clipped by their global norm, once per update.

use traintrue_protocol::number::Number;
use traintrue_protocol::plan::Train;
use traintrue_protocol::trace::event::Update;
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::Component;

use crate::bound;
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule, TraceRule};

/// Relative. Trainers add 1e-6 to the norm before they divide by it, and sum in f32.
pub(super) const TOLERANCE: f64 = 1e-3;
/// Three values are rounded to the format of the gradients: the norm, the scale, and the product with each gradient.
const ROUNDED: f64 = 3.0;

pub(crate) static RULE: Rule = Rule {
    name: "clip/global-norm",
    says: "the gradients that reach the optimizer have the smaller of the global norm and the clip as their norm",
    verifies: "clipped_norm is min(grad_norm, clip), or grad_norm if the plan does not clip. The tolerance is 0.1 % \
               plus three roundings in the plan's number format.",
    does_not_verify: "The direction of the clipped gradient (partition/same-update). Norms that are not finite \
                      (finite/everywhere).",
    kind: Kind::Trace(|opening| Box::new(Clip::of(&opening.plan.train))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Clip,
    needs: &[Fact::Plan],
};

struct Clip {
    limit: Option<f64>,
    tolerance: f64,
}

impl Clip {
    fn of(train: &Train) -> Self {
        Self { limit: train.clip, tolerance: TOLERANCE + ROUNDED * bound::unit_roundoff(train.dtype) }
    }

    fn update(&self, it: &Update, line: &Line, sheet: &mut Sheet) {
        let (Some(before), Some(after)) = (it.grad_norm, it.clipped_norm) else {
            return sheet.missing("grad_norm and clipped_norm");
        };
        if !before.is_finite() || !after.is_finite() {
            return;
        }
        let expected = self.limit.map_or(before.0, |limit| before.0.min(limit));
        sheet.check((after.0 - expected).abs() <= self.tolerance * expected.abs(), line, || Difference {
            expected: format!("clipped_norm {}", Number(expected)),
            actual: format!("{after}, from grad_norm {before}"),
            component: Component::Clipper,
            cause: match self.limit {
                None => "the plan does not clip, but the gradients were scaled before the optimizer step".into(),
                Some(_) if (after.0 - before.0).abs() <= self.tolerance * before.0 => "the gradients are not clipped at all: check that the clip runs before the step, on \
                                                   the parameters that the optimizer holds".into(),
                Some(_) if after.0 > expected => "the gradients were not clipped by their global norm: check whether \
                                                  each tensor or each micro-batch is clipped by itself".into(),
                Some(_) => "the gradients were scaled down further than the clip requires: check for a second clipping".into(),
            },
        });
    }
}

impl TraceRule for Clip {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        if let Event::Update(it) = &line.event {
            self.update(it, line, sheet);
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::testing::*;
    use traintrue_protocol::plan::Dtype;

    #[test]
    fn a_healthy_trace_holds() {
        holds(&judge(RULE.name, &whole()));
    }

    #[rstest]
    // Update 1 has norm 0.9 and update 4 has 1.2; the clip is 1.
    #[case::not_clipped(4, 1.2, "not clipped at all")]
    #[case::clipped_otherwise(4, 1.1, "not clipped by their global norm")]
    #[case::clipped_too_far(4, 0.7, "further than")]
    #[case::clipped_below_the_limit(1, 0.5, "further than")]
    fn a_wrong_norm_breaks(#[case] step: u64, #[case] norm: f64, #[case] cause: &str) {
        let mut events = whole();
        update_at(&mut events, step).clipped_norm = Some(Number(norm));
        let found = breaks(judge(RULE.name, &events), "clipper");
        assert!(found.contains(cause), "{found}");
    }

    #[rstest]
    #[case(Dtype::F32, false)]
    #[case(Dtype::F16, false)]
    #[case(Dtype::Bf16, true)]
    fn what_the_format_rounds_is_no_wrong_clip(#[case] dtype: Dtype, #[case] is_rounding: bool) {
        let mut events = whole();
        update_at(&mut events, 4).clipped_norm = Some(Number(0.995));
        if let Event::Run(run) = &mut events[0] {
            run.plan.train.dtype = dtype;
        }
        assert_eq!(judge(RULE.name, &events).broken.is_none(), is_rounding);
    }
}
