//! `artefact/adapter-targets`, `artefact/modules-to-save`: an adapter's file holds the tensors that its configuration
//! names.

use std::path::Path;

use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::vocabulary::Component;

use super::named;
use crate::artefact::{Adapter, Explained, Targets, ends_with_name, names_end};
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule};

pub(crate) static TARGETS: Rule = Rule {
    name: "artefact/adapter-targets",
    says: "the configuration names every tensor of an adapter, and every target is adapted",
    verifies: "Each tensor belongs to an adapter of a target module, to a module to save, or is a bias or an embedding \
               that PEFT saves. Each name in target_modules, rank_pattern and alpha_pattern matches an adapted module.",
    does_not_verify: "That every layer of a target is adapted. target_parameters. Patterns that only Python's regular \
                      expressions can express.",
    kind: Kind::Artefact,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Artefact,
    needs: &[Fact::Plan],
};

pub(crate) static MODULES_TO_SAVE: Rule = Rule {
    name: "artefact/modules-to-save",
    says: "every module of modules_to_save is in the file",
    verifies: "Each module of modules_to_save has a tensor. For classification PEFT adds both score and classifier; \
               one of them is enough, because a model has only one.",
    does_not_verify: "That the values are the trained ones (artefact/moves, with --against). A head that \
                      modules_to_save does not name.",
    kind: Kind::Artefact,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Artefact,
    needs: &[Fact::Plan],
};

/// Names that PEFT adds to `modules_to_save` for classification tasks, whichever of them the model has.
const CLASSIFIERS: [&str; 2] = ["score", "classifier"];

pub(crate) fn targets(adapter: &Adapter, sheet: &mut Sheet) {
    let config = &adapter.config;
    let mut unknown = false;
    for tensor in &adapter.file.tensors {
        match config.explains(&tensor.name) {
            // An unknown pattern must not accuse a tensor that PEFT itself would accept.
            Explained::Unknown => unknown = true,
            explained => {
                sheet.tensor(explained == Explained::Yes, &tensor.name, || Difference {
                    expected: "a tensor of a target module or a module to save".into(),
                    actual: "a tensor that the configuration does not name".into(),
                    component: Component::Checkpoint,
                    cause: "PEFT ignores this tensor when it loads the adapter: it was renamed, saved by other code, \
                            or belongs to another configuration"
                        .into(),
                });
            }
        }
    }
    let modules = adapter.modules();
    if let Some(Targets::Names(names)) = &config.target_modules {
        for name in names {
            let adapted = modules.iter().any(|module| ends_with_name(module, name));
            sheet.check_at(adapted, 0, || named("target", name), || Difference {
                expected: "an adapted module of that name".into(),
                actual: "none".into(),
                component: Component::Adapters,
                cause: "the model has no module of that name and trained without its adapter, or its tensors were not \
                        saved"
                    .into(),
            });
        }
    }
    let patterns = config.rank_pattern.iter().chain(&config.alpha_pattern).flatten();
    for (pattern, _) in patterns.filter(|_| config.target_parameters.is_none()) {
        let adapted = modules.iter().any(|module| names_end(pattern, module));
        sheet.check_at(
            adapted,
            0,
            || named("pattern", pattern),
            || Difference {
                expected: "an adapted module that it matches".into(),
                actual: "none".into(),
                component: Component::Adapters,
                cause: "the pattern matches no adapted module, so its rank or alpha has no effect".into(),
            },
        );
    }
    if unknown {
        sheet.cannot("target_modules or target_parameters cannot be evaluated for some tensors");
    }
}

/// Judges the heads. `config` is the file that a finding names.
pub(crate) fn modules_to_save(adapter: &Adapter, config: &Path, sheet: &mut Sheet) {
    let heads = adapter.config.heads();
    let there =
        |head: &str| adapter.file.tensors.iter().any(|tensor| adapter.config.saves(head, &tensor.name));
    let classifies =
        adapter.config.task_type.as_deref().is_some_and(|it| matches!(it, "SEQ_CLS" | "TOKEN_CLS"));
    let another = |head: &str| {
        classifies
            && CLASSIFIERS.contains(&head)
            && CLASSIFIERS.iter().any(|other| heads.iter().any(|it| it == other) && there(other))
    };
    for head in heads {
        sheet.check_at(there(head) || another(head), 0, || named("module", head), || Difference {
            expected: format!("the head's tensors: {} names it in modules_to_save", config.display()),
            actual: "none".into(),
            component: Component::Heads,
            cause: "the trained head was not saved with the adapter: after loading it has the base model's weights or \
                    random ones".into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::super::testing::{broke, holds};
    use super::*;
    use crate::artefact::testing::{Written, adapter_config, adapter_folder, adapter_tensors};

    type Change = fn(&mut Value, &mut Vec<Written>);

    fn judged(heads: bool, change: Change) -> Sheet {
        let folder = tempfile::tempdir().unwrap();
        let (mut config, mut tensors) = (adapter_config(), adapter_tensors(0.5));
        change(&mut config, &mut tensors);
        let folder = adapter_folder(&folder.path().join("adapter"), &config, &tensors);
        let files = ["adapter_config.json", "adapter_model.safetensors"].map(|name| folder.join(name));
        let adapter = Adapter::read(&files[0], &files[1], false).unwrap();
        let mut sheet = Sheet::default();
        if heads {
            modules_to_save(&adapter, &files[0], &mut sheet)
        } else {
            targets(&adapter, &mut sheet)
        };
        sheet
    }

    fn rename(tensors: &mut [Written], from: &str, to: &str) {
        tensors.iter_mut().for_each(|it| it.name = it.name.replace(from, to));
    }

    #[rstest]
    #[case::names(|_: &mut Value, _: &mut Vec<Written>| {})]
    #[case::pattern(|config: &mut Value, _: &mut Vec<Written>| config["target_modules"] = json!(r".*\.(q|v)_proj"))]
    fn tensors_that_the_configuration_names_hold(#[case] change: Change) {
        holds(&judged(false, change));
        holds(&judged(true, change));
    }

    #[test]
    fn what_cannot_be_followed_is_said() {
        let sheet = judged(false, |config, _| config["target_modules"] = json!(r"(?!k).*_proj"));
        holds(&sheet);
        assert!(sheet.missing.unwrap().contains("cannot be evaluated"));
    }

    #[rstest]
    #[case::target(|config: &mut Value, _: &mut Vec<Written>| config["target_modules"] = json!(["q_proj", "v_proj", "o_proj"]), "o_proj: expected an adapted module")]
    #[case::not_a_target(|config: &mut Value, _: &mut Vec<Written>| config["target_modules"] = json!(["q_proj"]), "layers.0.v_proj.lora_A.weight: expected a tensor of a")]
    #[case::prefix(|_: &mut Value, it: &mut Vec<Written>| rename(it, "base_model.model.", ""), "a tensor that the \
        configuration does not name: PEFT ignores")]
    #[case::adapters_name(|_: &mut Value, it: &mut Vec<Written>| rename(it, "lora_A.weight", "lora_A.default.weight"), "lora_A.default.weight: expected a tensor")]
    #[case::head(|config: &mut Value, _: &mut Vec<Written>| config["modules_to_save"] = Value::Null, "projection.bias: expected a tensor of a target module")]
    #[case::pattern(|config: &mut Value, _: &mut Vec<Written>| config["alpha_pattern"] = json!({"k_proj": 4}), "k_proj: expected an adapted module that it matches")]
    fn what_the_other_does_not_have_breaks(#[case] change: Change, #[case] expected: &str) {
        let found = broke(&judged(false, change));
        assert!(found.contains(expected), "{found}");
    }

    #[rstest]
    #[case::lost(|_: &mut Value, it: &mut Vec<Written>| it.retain(|it| !it.name.contains("projection")))]
    #[case::second(|config: &mut Value, _: &mut Vec<Written>| config["modules_to_save"] = json!(["projection", "value_head"]))]
    #[case::both(|config: &mut Value, _: &mut Vec<Written>| { config["task_type"] = json!("SEQ_CLS"); config["modules_to_save"] = json!(["score", "classifier"]); })]
    #[case::no_task(|config: &mut Value, it: &mut Vec<Written>| {
        rename(it, "projection", "score");
        config["modules_to_save"] = json!(["score", "classifier"]);
    })]
    fn a_head_that_was_not_saved_breaks(#[case] change: Change) {
        let found = broke(&judged(true, change));
        assert!(found.contains("the trained head was not saved with the adapter"), "{found}");
    }

    #[test]
    fn of_the_classifiers_that_peft_adds_one_is_enough() {
        holds(&judged(true, |config, it| {
            rename(it, "projection", "score");
            config["task_type"] = json!("SEQ_CLS");
            config["modules_to_save"] = json!(["classifier", "score"]);
        }));
    }
}
