//! `state/trains-what-was-asked`: what trains is what the plan says, and the optimizer holds exactly that.

use traintrue_protocol::number::Number;
use traintrue_protocol::plan::Adapters;
use traintrue_protocol::trace::event::{State, TensorState};
use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::trace::{Event, Line};
use traintrue_protocol::vocabulary::{Component, Moment};

use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Opening, Rank, Rule, TraceRule};

pub(crate) static RULE: Rule = Rule {
    name: "state/trains-what-was-asked",
    says: "adapters and heads train, the base does not, and the optimizer holds exactly the trainable tensors",
    verifies: "At every state the optimizer holds exactly the trainable tensors. With adapters, the base is frozen, \
               and the adapters and every head of the plan are present and trainable. Without adapters, everything is \
               trainable except the group `frozen`. The set of tensors stays the same. Where a state tells what scales its \
               adapters, that is the plan's alpha / r, or alpha over the root of r for rsLoRA.",
    does_not_verify: "That the tensors in the optimizer change (state/optimized-moves). That loaded values equal the \
                      saved ones (reload/same-sets).",
    kind: Kind::Trace(|opening| Box::new(Trainable::new(opening))),
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::State,
    needs: &[Fact::Plan],
};

struct Trainable {
    adapted: bool,
    adapters: Option<Adapters>,
    /// Groups that must be there.
    groups: Vec<String>,
    /// The names of the first state, in order.
    names: Option<Vec<String>>,
}

impl Trainable {
    fn new(opening: &Opening) -> Self {
        let train = &opening.plan.train;
        let adapter = train.adapters.iter().map(|_| "adapter".to_owned());
        Self {
            adapted: train.adapters.is_some(),
            adapters: train.adapters.clone(),
            groups: train.heads.iter().cloned().chain(adapter).collect(),
            names: None,
        }
    }

    fn should_train(&self, tensor: &TensorState) -> bool {
        tensor.group != "frozen" && (!self.adapted || tensor.group != "base")
    }

    fn state(&mut self, it: &State, line: &Line, sheet: &mut Sheet) {
        if it.tensors.is_empty() {
            return sheet.missing("tensors");
        }
        for group in &self.groups {
            sheet.check(it.tensors.iter().any(|tensor| tensor.group == *group), line, || Difference {
                expected: format!("at least one tensor of group {group}"),
                actual: "none".into(),
                component: Component::AdapterLoader,
                cause: format!(
                    "the trained model has no {group}: check how the model is wrapped and reloaded"
                ),
            });
        }
        for tensor in &it.tensors {
            self.tensor(tensor, line, sheet);
        }
        self.same_names(it, line, sheet);
        if let Some(adapters) = &self.adapters {
            scale(it, adapters, line, sheet);
        }
    }

    fn tensor(&self, tensor: &TensorState, line: &Line, sheet: &mut Sheet) {
        let asked = self.should_train(tensor);
        sheet.check(tensor.trainable == asked, line, || Difference {
            expected: format!("{} {}", tensor.name, if asked { "trainable" } else { "frozen" }),
            actual: if asked { "frozen" } else { "trainable" }.into(),
            component: if self.adapted { Component::AdapterLoader } else { Component::OptimizerGroups },
            cause: if asked {
                format!("{} of group {} is frozen and cannot learn: check requires_grad after wrapping and loading", tensor.name, tensor.group)
            } else {
                "a tensor that should be frozen is trainable: check requires_grad after wrapping and loading".into()
            },
        });
        sheet.check(tensor.optimized == tensor.trainable, line, || Difference {
            expected: format!(
                "{} {} the optimizer",
                tensor.name,
                if tensor.trainable { "in" } else { "not in" }
            ),
            actual: if tensor.optimized { "in it" } else { "not in it" }.into(),
            component: Component::OptimizerGroups,
            cause: if tensor.trainable {
                format!("{} is trainable but the optimizer does not hold it: check that the optimizer is built after \
                         the tensor is added", tensor.name)
            } else {
                "the optimizer holds a frozen tensor: weight decay would change it".into()
            },
        });
    }

    fn same_names(&mut self, it: &State, line: &Line, sheet: &mut Sheet) {
        let Some(first) = &self.names else {
            self.names = Some(it.tensors.iter().map(|tensor| tensor.name.clone()).collect());
            return;
        };
        let lost = first.iter().find(|name| !it.tensors.iter().any(|tensor| tensor.name == **name));
        let added = it.tensors.iter().find(|tensor| !first.contains(&tensor.name));
        sheet.check(lost.is_none() && added.is_none(), line, || Difference {
            expected: format!("the {} tensors of the first state", first.len()),
            actual: match (lost, added) {
                (Some(name), _) => format!("{name} is gone"),
                (None, Some(tensor)) => format!("{} is new", tensor.name),
                (None, None) => String::new(),
            },
            component: Component::AdapterLoader,
            cause: "the set of tensors changed during the run: check what replaces modules of the model"
                .into(),
        });
    }
}

/// The adapters' scale, where the trainer tells one.
fn scale(it: &State, adapters: &Adapters, line: &Line, sheet: &mut Sheet) {
    let told = it.parts.get(State::ADAPTER_SCALE).and_then(|told| told.parse::<f64>().ok());
    let Some(found) = told else { return };
    let Adapters { r, alpha, rs, .. } = *adapters;
    let of = |rs: bool| alpha / if rs { (r as f64).sqrt() } else { r as f64 };
    let near = |expected: f64| (found - expected).abs() <= 1e-5 * expected.abs();
    sheet.check(near(of(rs)), line, || Difference {
        expected: format!("adapters scaled by {}", Number(of(rs))),
        actual: Number(found).to_string(),
        component: if it.at == Moment::Loaded { Component::AdapterLoader } else { Component::Adapters },
        cause: match (rs, near(of(!rs))) {
            (true, true) => {
                "rsLoRA is ignored: the scale is alpha / r, and not alpha over the root of r".into()
            }
            (false, true) => {
                "the scale is that of rsLoRA, alpha over the root of r, and the plan's is alpha / r".into()
            }
            _ => format!("the scale does not follow from alpha {} and r {r}", Number(alpha)),
        },
    });
}

impl TraceRule for Trainable {
    fn see(&mut self, line: &Line, sheet: &mut Sheet) {
        if let Event::State(it) = &line.event {
            self.state(it, line, sheet);
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use traintrue_protocol::trace::event::Epoch;

    use super::*;
    use crate::testing::*;

    #[test]
    fn a_healthy_trace_holds() {
        holds(&judge(RULE.name, &whole()));
    }

    #[rstest]
    // The plan has alpha 8 and r 4.
    #[case::as_planned(false, "2", None)]
    #[case::of_rslora(true, "4", None)]
    #[case::rslora_ignored(true, "2", Some("rsLoRA is ignored"))]
    #[case::rslora_unasked(false, "4", Some("is that of rsLoRA"))]
    #[case::another(false, "16", Some("does not follow from alpha 8.00000 and r 4"))]
    #[case::no_number(false, "none", None)]
    fn the_adapters_scale_is_the_plans(#[case] rs: bool, #[case] told: &str, #[case] cause: Option<&str>) {
        let adapters = Adapters { r: 4, alpha: 8.0, rs, targets: vec!["q".into()] };
        let parts = [(State::ADAPTER_SCALE.to_owned(), told.to_owned())].into();
        let line = Line { number: 2, event: Event::Epoch(Epoch::begin(0)) };
        let mut sheet = Sheet::default();
        scale(&State { parts, ..State::new(Moment::Start, 0) }, &adapters, &line, &mut sheet);
        let found = sheet.broken.map(|it| it.cause);
        assert_eq!(found.is_some(), cause.is_some(), "{found:?}");
        assert!(found.unwrap_or_default().contains(cause.unwrap_or_default()));
    }

    #[rstest]
    #[case::head_dropped(|it: &mut State| { it.tensors.pop(); }, "adapter-loader")]
    #[case::head_frozen(|it: &mut State| {
        (it.tensors[2].trainable, it.tensors[2].optimized) = (false, false);
    }, "adapter-loader")]
    #[case::head_not_optimized(|it: &mut State| it.tensors[2].optimized = false, "optimizer-groups")]
    #[case::base_optimized(|it: &mut State| it.tensors[0].optimized = true, "optimizer-groups")]
    #[case::base_trains(|it: &mut State| it.tensors[0].trainable = true, "adapter-loader")]
    #[case::renamed(|it: &mut State| it.tensors[1].name = "other".into(), "adapter-loader")]
    fn a_wrong_set_breaks(#[case] change: fn(&mut State), #[case] component: &str) {
        let mut events = whole();
        change(state_at(&mut events, Moment::End));
        breaks(judge(RULE.name, &events), component);
    }
}
