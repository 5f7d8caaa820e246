//! Asks a trainer only for what it lists.
//!
//! What a scenario can do without is left out of the plans: a seam is a seam without adapters too. The other runs are not
//! made, and not judged.

use std::collections::BTreeSet;

use traintrue_protocol::contract::Asked;
use traintrue_protocol::plan::{Plan, Restore};
use traintrue_protocol::vocabulary::Capability;

use super::expand::{ConcreteRun, Expansion};

/// A part of the plan that asks for a capability.
struct Part {
    capability: Capability,
    asked: fn(&Plan) -> bool,
    /// How a plan goes without it; none where a run is another run without it.
    leave_out: Option<fn(&mut Plan)>,
}

const PARTS: [Part; 15] = [
    optional(Capability::Adapters, |plan| plan.train.adapters.is_some(), |plan| plan.train.adapters = None),
    optional(Capability::Heads, |plan| !plan.train.heads.is_empty(), |plan| plan.train.heads.clear()),
    optional(Capability::Probes, |plan| !plan.probes.is_empty(), |plan| plan.probes.clear()),
    optional(
        Capability::Cache,
        |plan| plan.train.cache || plan.probes.iter().any(|probe| probe.cached),
        |plan| {
            plan.train.cache = false;
            plan.probes.retain(|probe| !probe.cached);
        },
    ),
    optional(
        Capability::Checkpointing,
        |plan| plan.train.checkpointing,
        |plan| plan.train.checkpointing = false,
    ),
    optional(Capability::Evaluation, |plan| plan.evaluate_every.is_some(), |plan| plan.evaluate_every = None),
    optional(
        Capability::Contract,
        |plan| plan.contract != Asked::default(),
        |plan| plan.contract = Asked::default(),
    ),
    optional(Capability::Operations, |plan| plan.operations, |plan| plan.operations = false),
    needed(Capability::Resume, |plan| {
        let saves = plan.stop.as_ref().is_some_and(|stop| stop.save.is_some()) || plan.save_every.is_some();
        saves || plan.start.is_some()
    }),
    needed(Capability::Weights, |plan| plan.start.as_ref().is_some_and(|it| it.what == Restore::Weights)),
    needed(Capability::World, |plan| plan.train.world > 1),
    needed(Capability::Ranks, |plan| plan.train.together),
    needed(Capability::Devices, |plan| !plan.devices.is_empty()),
    needed(Capability::Cycles, |plan| !plan.cycles.is_empty()),
    needed(Capability::Memory, |plan| plan.memory.is_some()),
];

const fn optional(capability: Capability, asked: fn(&Plan) -> bool, leave_out: fn(&mut Plan)) -> Part {
    Part { capability, asked, leave_out: Some(leave_out) }
}

const fn needed(capability: Capability, asked: fn(&Plan) -> bool) -> Part {
    Part { capability, asked, leave_out: None }
}

impl Expansion {
    /// Leaves out of the plans what the trainer does not list, and notes it. A run that would be another run without it is
    /// left out whole: returned with the capability that it needs.
    pub fn offer(&mut self, capabilities: &[Capability]) -> Vec<(String, Capability)> {
        let (mut left_out, mut lacking) = (BTreeSet::new(), Vec::new());
        for part in PARTS.iter().filter(|part| !capabilities.contains(&part.capability)) {
            let asks = |run: &ConcreteRun| run.segments.iter().any(|segment| (part.asked)(&segment.plan));
            let Some(leave_out) = part.leave_out else {
                let unable = self.runs.extract_if(.., |run| asks(run));
                lacking.extend(unable.map(|run| (run.name, part.capability)));
                continue;
            };
            for plan in plans(&mut self.runs).filter(|plan| (part.asked)(plan)) {
                leave_out(plan);
                left_out.insert(part.capability);
            }
        }
        self.notes.extend(note(&left_out));
        lacking
    }
}

fn plans(runs: &mut [ConcreteRun]) -> impl Iterator<Item = &mut Plan> {
    runs.iter_mut().flat_map(|run| &mut run.segments).map(|segment| &mut segment.plan)
}

fn note(left_out: &BTreeSet<Capability>) -> Option<String> {
    let names = left_out.iter().map(ToString::to_string).collect::<Vec<_>>();
    (!names.is_empty())
        .then(|| format!("left out of the plans, because the trainer does not list it: {}", names.join(", ")))
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use serde_json::{Value, json};

    use super::*;
    use crate::scenario::{Catalogue, Corpus, expand};

    /// The capability that each part of a plan belongs to, as the protocol's README has it, read from the plan as JSON: not
    /// by the functions above. Fields that every trainer follows have none.
    const OF_FIELDS: [(&str, Capability); 17] = [
        ("/train/adapters", Capability::Adapters),
        ("/train/heads", Capability::Heads),
        ("/train/cache", Capability::Cache),
        ("/train/checkpointing", Capability::Checkpointing),
        ("/probes", Capability::Probes),
        ("/evaluate_every", Capability::Evaluation),
        ("/contract", Capability::Contract),
        ("/start", Capability::Resume),
        ("/stop/save", Capability::Resume),
        ("/save_every", Capability::Resume),
        ("/operations", Capability::Operations),
        ("/devices", Capability::Devices),
        ("/cycles", Capability::Cycles),
        ("/memory", Capability::Memory),
        ("/train/rank", Capability::World),
        ("/train/world", Capability::World),
        ("/train/together", Capability::Ranks),
    ];

    fn asks(plan: &Value, field: &str) -> bool {
        let nothing = [json!(null), json!(false), json!([]), json!({}), json!(0)];
        let value = plan.pointer(field).unwrap_or(&Value::Null);
        let is_alone = field == "/train/world" && *value == json!(1);
        !nothing.contains(value) && !is_alone
    }

    fn asked_of(plan: &Plan) -> BTreeSet<Capability> {
        let plan = serde_json::to_value(plan).unwrap();
        let mut asked: BTreeSet<Capability> = OF_FIELDS
            .iter()
            .filter(|(field, _)| asks(&plan, field))
            .map(|(_, capability)| *capability)
            .collect();
        let cached = plan["probes"].as_array().unwrap().iter().any(|probe| probe["cached"] == true);
        asked.extend(cached.then_some(Capability::Cache));
        asked.extend((plan["start"]["what"] == "weights").then_some(Capability::Weights));
        asked
    }

    #[test]
    fn no_trainer_is_sent_what_it_does_not_list() {
        let (catalogue, corpus) = (Catalogue::load(None).unwrap(), Corpus::shipped().unwrap());
        for scenario in catalogue.all() {
            let mut expansion = expand(scenario, &corpus, Path::new("checkpoints")).unwrap();
            // A trainer that lists what the scenario says that it needs, and nothing else.
            let lacking = expansion.offer(&scenario.needs);
            assert!(!expansion.runs.is_empty(), "{} needs {lacking:?} and does not say so", scenario.id);
            for plan in plans(&mut expansion.runs) {
                let uninvited: Vec<_> =
                    asked_of(plan).into_iter().filter(|asked| !scenario.needs.contains(asked)).collect();
                assert!(uninvited.is_empty(), "{} sends {} {uninvited:?}", scenario.id, plan.run);
            }
        }
    }

    #[test]
    fn a_trainer_that_lists_everything_is_sent_every_plan_as_it_is_written() {
        let (catalogue, corpus) = (Catalogue::load(None).unwrap(), Corpus::shipped().unwrap());
        for scenario in catalogue.all() {
            let written = expand(scenario, &corpus, Path::new("checkpoints")).unwrap();
            let mut expansion = written.clone();
            assert_eq!(expansion.offer(Capability::ALL), []);
            let plans = |expansion: &mut Expansion| {
                plans(&mut expansion.runs).map(|it| it.clone()).collect::<Vec<_>>()
            };
            assert_eq!(plans(&mut expansion), plans(&mut written.clone()));
        }
    }

    #[test]
    fn a_run_that_would_be_another_run_is_left_out_and_the_others_stay() {
        let (catalogue, corpus) = (Catalogue::load(None).unwrap(), Corpus::shipped().unwrap());
        let scenario = catalogue.find("scheduler-steps").unwrap();
        let mut expansion = expand(scenario, &corpus, Path::new("checkpoints")).unwrap();
        let lacking = expansion.offer(&[Capability::Contract]);
        assert_eq!(lacking[0], ("rank-1-of-3".to_owned(), Capability::World));
        assert!(expansion.runs.iter().any(|run| run.name == "constant"));
    }
}
