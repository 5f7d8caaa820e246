//! `loop/decay`: each tensor decays as it is meant to.

use traintrue_protocol::number::Number;
use traintrue_protocol::trace::event::{State, TensorState};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::{Component, Moment};

use super::optimizer::names;
use crate::finding::{Difference, Sheet};
use crate::invariants::shared::names::listed;
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

/// Relative: two decays that differ by less are one.
const SAME: f64 = 1e-6;
pub(crate) static RULE: Rule = Rule {
    name: "loop/decay",
    says: "each tensor is in an optimizer group with the weight decay that it is meant to have",
    verifies: "With a declared decay, every tensor that trains is in a group with it, and those that are declared not to \
               decay are in a group with 0.",
    does_not_verify: "Which tensors should decay, where nothing is declared: it then only finds groups with each other's \
                      decay (all vectors decay, and no matrix), and remarks on vectors that decay beside others that do \
                      not. That the optimizer applies its decay (update/replayed). Groups that are added, or changed, \
                      after training has begun.",
    kind: Kind::Trace(|opening| Box::new(Decays::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::State,
    needs: &[Fact::Observed],
};

struct Decays {
    declared: Option<f64>,
    exempt: Vec<String>,
    /// Whether one optimizer has all groups. Of two, each may have a decay of its own.
    is_one: bool,
}

impl Decays {
    fn new(opening: &Opening) -> Self {
        let recorded = opening.recorded;
        Self {
            declared: recorded.and_then(|it| it.decay),
            exempt: recorded.map(|it| it.no_decay.clone()).unwrap_or_default(),
            is_one: recorded.is_some_and(|it| it.optimizers.len() == 1),
        }
    }

    fn state(&self, state: &State, line: &Line, sheet: &mut Sheet) {
        let trained = state.tensors.iter().filter(|it| it.trainable && it.optimized);
        let decays: Vec<(&TensorState, f64)> = trained.filter_map(|it| Some((it, it.decay?.0))).collect();
        match self.declared {
            Some(declared) => self.held(&decays, declared, line, sheet),
            None if self.is_one && are_swapped(&decays) => swapped(&decays, line, sheet),
            None => remark(&decays, sheet),
        }
    }

    fn held(&self, decays: &[(&TensorState, f64)], declared: f64, line: &Line, sheet: &mut Sheet) {
        if decays.is_empty() {
            return sheet.cannot("the declared decay: no optimizer has groups with one");
        }
        let expected = |it: &TensorState| {
            if self.exempt.iter().any(|pattern| names(pattern, &it.name)) { 0.0 } else { declared }
        };
        let wrong: Vec<&(&TensorState, f64)> = decays
            .iter()
            .filter(|(it, found)| (found - expected(it)).abs() > SAME * declared.abs())
            .collect();
        sheet.compared += (decays.len() - wrong.len()) as u64;
        let Some((first, found)) = wrong.first() else { return };
        let due = expected(first);
        let alike = || {
            wrong
                .iter()
                .filter(|(it, decay)| expected(it) == due && decay == found)
                .map(|(it, _)| it.name.as_str())
        };
        sheet.check(false, line, || Difference {
            expected: format!("decay {} for {} (declared)", Number(due), listed(alike())),
            actual: format!("{}, for {} of {} tensors", Number(*found), alike().count(), decays.len()),
            component: Component::OptimizerGroups,
            cause: if due == 0.0 {
                "these tensors are in a group that decays: their names are not those that the groups are made by".into()
            } else if *found == 0.0 {
                "these tensors are in a group that does not decay: a group's own decay replaces the optimizer's".into()
            } else {
                "these tensors are in a group with another decay".into()
            },
        });
    }
}

/// Whether the vectors decay and the matrices do not.
fn are_swapped(decays: &[(&TensorState, f64)]) -> bool {
    let (matrices, vectors): (Vec<_>, Vec<_>) = decays.iter().partition(|(it, _)| it.shape.len() > 1);
    let several = matrices.len() > 1 && vectors.len() > 1;
    several
        && matrices.iter().all(|(_, decay)| *decay == 0.0)
        && vectors.iter().all(|(_, decay)| *decay != 0.0)
}

fn swapped(decays: &[(&TensorState, f64)], line: &Line, sheet: &mut Sheet) {
    let vectors = || decays.iter().filter(|(it, _)| it.shape.len() < 2).map(|(it, _)| it.name.as_str());
    sheet.check(false, line, || Difference {
        expected: "matrices that decay, where norms and biases do".into(),
        actual: format!(
            "none of {}, and all {} vectors: {}",
            decays.len() - vectors().count(),
            vectors().count(),
            listed(vectors())
        ),
        component: Component::OptimizerGroups,
        cause: "the two groups have each other's decay".into(),
    });
}

/// Vectors that decay beside others that do not were most likely missed by name.
fn remark(decays: &[(&TensorState, f64)], sheet: &mut Sheet) {
    let vectors = || decays.iter().filter(|(it, _)| it.shape.len() < 2);
    let decaying = || vectors().filter(|(_, decay)| *decay != 0.0).map(|(it, _)| it.name.as_str());
    let (count, all) = (decaying().count(), vectors().count());
    if count > 0 && count < all {
        sheet.remark(format!(
            "{count} of {all} vectors decay, and the others do not: {}; --decay and --no-decay hold each to what is meant",
            listed(decaying())
        ));
    }
}

impl TraceRule for Decays {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        if let Event::State(it) = &line.event
            && it.at == Moment::Start
        {
            self.state(it, line, sheet);
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;
    use crate::invariants::recorded::testing::*;
    use crate::testing::{breaks, judge};

    const TENSORS: [(&str, &[u64]); 4] =
        [("in.weight", &[4, 4]), ("in.bias", &[4]), ("norm.weight", &[4]), ("out.weight", &[4, 4])];

    /// A loop whose tensors have these decays, of which `declared` are declared.
    fn decaying(decays: [f64; 4], declared: Option<f64>, exempt: &[&str]) -> Vec<Event> {
        let mut events = clean(Shape::default());
        let facts = recorded(&mut events);
        (facts.decay, facts.no_decay) = (declared, exempt.iter().map(ToString::to_string).collect());
        let tensor = |((name, shape), decay): (&(&str, &[u64]), f64)| TensorState {
            shape: shape.to_vec(),
            decay: Some(Number(decay)),
            ..tensor(name, true, true)
        };
        let tensors = TENSORS.iter().zip(decays).map(tensor).collect();
        let start = State { tensors, ..State::new(Moment::Start, 0) };
        events.insert(1, Event::State(Box::new(start)));
        events
    }

    #[rstest]
    #[case::nothing_declared(decaying([0.1; 4], None, &[]), 0)]
    #[case::as_declared(decaying([0.1; 4], Some(0.1), &[]), 0)]
    #[case::vectors_exempt(decaying([0.1, 0.0, 0.0, 0.1], Some(0.1), &["*.bias", "norm.*"]), 0)]
    #[case::one_vector_missed(decaying([0.1, 0.0, 0.1, 0.1], None, &[]), 1)]
    #[case::no_matrix_and_one_vector(decaying([0.0, 0.0, 0.1, 0.0], None, &[]), 1)]
    fn what_right_loops_do_is_no_accusation(#[case] events: Vec<Event>, #[case] remarks: usize) {
        let sheet = judge(RULE.name, &events);
        assert!(sheet.broken.is_none(), "{:?}", sheet.broken);
        assert_eq!(sheet.remarks.len(), remarks, "{:?}", sheet.remarks);
    }

    #[test]
    fn two_optimizers_may_have_two_decays() {
        let mut events = decaying([0.0, 0.1, 0.1, 0.0], None, &[]);
        recorded(&mut events).optimizers = vec!["SGD".into(), "AdamW".into()];
        assert!(judge(RULE.name, &events).broken.is_none());
    }

    #[rstest]
    #[case::left_out(decaying([0.0; 4], Some(0.1), &[]), "decay 0.100000 for in.weight, in.bias, norm.weight and 1 more", "a group's own decay")]
    #[case::missed(decaying([0.1, 0.0, 0.1, 0.1], Some(0.1), &["*.bias", "*norm*"]), "decay 0.000000 for norm.weight", "their names are not")]
    #[case::swapped(decaying([0.0, 0.1, 0.1, 0.0], None, &[]), "matrices that decay", "each other's decay")]
    #[case::another(decaying([0.1, 0.1, 0.1, 0.2], Some(0.1), &[]), "for out.weight", "with another decay")]
    fn a_decay_that_is_not_the_declared_one_breaks(
        #[case] events: Vec<Event>,
        #[case] expected: &str,
        #[case] cause: &str,
    ) {
        let found = breaks(judge(RULE.name, &events), "optimizer-groups");
        assert!(found.contains(cause), "{found}");
        let broken = judge(RULE.name, &events).broken.unwrap();
        assert!(broken.expected.contains(expected), "{}", broken.expected);
    }
}
