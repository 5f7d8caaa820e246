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
    /// The norm of the update before.
    before: Option<f64>,
    /// Wrong updates, and the norm that the first of them left.
    wrong: u64,
    left: f64,
    /// What explains every wrong update so far.
    suspects: Vec<Suspect>,
}

/// A known mistake.
type Suspect = (&'static str, fn(&Clipped) -> f64);

/// One update that is clipped wrongly.
struct Clipped {
    norm: f64,
    limit: f64,
    /// The norm of the update before; none in the first.
    before: Option<f64>,
    /// What the first wrong update left.
    left: f64,
}

/// Known mistakes, with the norm that each leaves. The first that explains every wrong update is the cause.
const SUSPECTS: [Suspect; 4] = [
    (
        "the gradients are not clipped at all: check that the clip runs before the step, on the parameters that the optimizer \
         holds",
        |it| it.norm,
    ),
    ("the gradients are clipped by the norm of the update before", |it| {
        it.norm * it.before.map_or(1.0, |before| (it.limit / before).min(1.0))
    }),
    ("the gradients are divided by the square of their norm: a root is missing", |it| {
        it.norm * (it.limit / it.norm.powi(2)).min(1.0)
    }),
    ("the gradients are clipped to another limit than the plan's", |it| it.norm.min(it.left)),
];

impl Clip {
    fn of(train: &Train) -> Self {
        Self {
            limit: train.clip,
            tolerance: TOLERANCE + ROUNDED * bound::unit_roundoff(train.dtype),
            before: None,
            wrong: 0,
            left: 0.0,
            suspects: SUSPECTS.to_vec(),
        }
    }

    fn update(&mut self, it: &Update, line: &Line, sheet: &mut Sheet) {
        let (Some(before), Some(after)) = (it.grad_norm, it.clipped_norm) else {
            return sheet.missing("grad_norm and clipped_norm");
        };
        if !before.is_finite() || !after.is_finite() {
            return;
        }
        let last = self.before.replace(before.0);
        let expected = self.limit.map_or(before.0, |limit| before.0.min(limit));
        let near = |found: f64, norm: f64| (found - norm).abs() <= self.tolerance * norm.abs();
        if near(after.0, expected) {
            sheet.compared += 1;
            return;
        }
        self.wrong += 1;
        self.left = if self.wrong == 1 { after.0 } else { self.left };
        let limit = self.limit.unwrap_or(f64::INFINITY);
        let it = Clipped { norm: before.0, limit, before: last, left: self.left };
        self.suspects =
            self.suspects.iter().copied().filter(|(_, leaves)| near(after.0, leaves(&it))).collect();
        let cause = self.cause(after.0 > expected);
        match &mut sheet.broken {
            // One norm does not say what clips otherwise: a mistake is named if it gives each of the wrong ones.
            Some(broken) => {
                sheet.compared += 1;
                broken.cause = cause;
            }
            None => {
                sheet.check(false, line, || Difference {
                    expected: format!("clipped_norm {}", Number(expected)),
                    actual: format!("{after}, from grad_norm {before}"),
                    component: Component::Clipper,
                    cause,
                });
            }
        }
    }

    /// What explains all wrong updates so far. `larger`: the norm that is left is above the clip.
    fn cause(&self, larger: bool) -> String {
        let Some(limit) = self.limit else {
            return "the plan does not clip, but the gradients were scaled before the optimizer step".into();
        };
        // Another limit is what one wrong update has in any case.
        let known = self.suspects.iter().find(|(what, _)| self.wrong > 1 || *what != SUSPECTS[3].0);
        match known {
            Some((what, _)) if *what == SUSPECTS[3].0 => format!("{what}: {} times it", Number(self.left / limit)),
            Some((what, _)) => (*what).into(),
            None if larger => "the gradients were not clipped by their global norm: the norm is taken over a part of them, a part \
                               is left out of the clip, or each tensor or each micro-batch is clipped by itself".into(),
            None => "the gradients were scaled down further than the clip requires: check for a second clipping".into(),
        }
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

    /// The norms are 0.9, 1.0, 1.1, 1.2 and so on; the clip is 1.
    #[rstest]
    #[case::never(|norm: f64, _| norm, "not clipped at all")]
    #[case::by_the_norm_before(|norm: f64, before: f64| norm / before.max(1.0), "by the norm of the update before")]
    #[case::squared(|norm: f64, _| if norm > 1.0 { 1.0 / norm } else { norm }, "square of their norm")]
    #[case::to_another_limit(|norm: f64, _| norm.min(0.5), "another limit than the plan's: 0.500000 times it")]
    #[case::in_part(|norm: f64, _| if norm > 1.0 { 1.0 + 0.4 * (norm - 1.0) } else { norm }, "a part is left out")]
    fn wrong_norms_are_explained_together(#[case] leaves: fn(f64, f64) -> f64, #[case] cause: &str) {
        let mut events = whole();
        let mut before = 1.0;
        for step in 1..=6 {
            let update = update_at(&mut events, step);
            let norm = update.grad_norm.expect("every update has a norm").0;
            update.clipped_norm = Some(Number(leaves(norm, before)));
            before = norm;
        }
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
