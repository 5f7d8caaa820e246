//! `artefact/adapter-shapes`, `artefact/adapter-scale`, `artefact/adapter-learns`: the two matrices of each adapted
//! module.

use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::vocabulary::Component;

use super::named;
use crate::artefact::{Adapter, Part, Tensor, module_of};
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule};

pub(crate) static SHAPES: Rule = Rule {
    name: "artefact/adapter-shapes",
    says: "each adapted module has both matrices, of its rank and of one number format",
    verifies: "lora_A has shape [r, in] and lora_B has [out, r], where r is from adapter_config.json or from the \
               rank_pattern that names the module. Both are present, in one floating-point format. With use_dora each \
               module has a magnitude of `out` values.",
    does_not_verify: "in and out: they depend on the base model, which is not in the files.",
    kind: Kind::Artefact,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Artefact,
    needs: &[Fact::Plan],
};

pub(crate) static SCALE: Rule = Rule {
    name: "artefact/adapter-scale",
    says: "the configuration gives the scale of the adapter's delta, and it is not 0",
    verifies: "r and lora_alpha are in adapter_config.json. lora_alpha and every alpha_pattern are finite and not 0.",
    does_not_verify: "That the run trained with this scale (reload/same-outputs, for a trainer that can be run).",
    kind: Kind::Artefact,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Artefact,
    needs: &[Fact::Plan],
};

pub(crate) static LEARNS: Rule = Rule {
    name: "artefact/adapter-learns",
    says: "no matrix of an adapter is still all 0",
    verifies: "No matrix of an adapted module is all zeros. One of the two starts as zeros (lora_B; lora_embedding_A \
               of an embedding), and any update with a gradient changes it.",
    does_not_verify: "That the adapter still learns (artefact/moves, with --against). Initialisations that do not \
                      start at 0.",
    kind: Kind::Artefact,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Artefact,
    needs: &[Fact::Plan],
};

/// The tensors of one adapted module; None for those that the file does not have.
struct Pair<'a> {
    a: Option<&'a Tensor>,
    b: Option<&'a Tensor>,
    magnitude: Option<&'a Tensor>,
}

impl<'a> Pair<'a> {
    fn of(adapter: &'a Adapter, module: &str) -> Self {
        let part =
            |wanted| adapter.file.tensors.iter().find(|tensor| module_of(&tensor.name) == (module, wanted));
        Self { a: part(Part::A), b: part(Part::B), magnitude: part(Part::Magnitude) }
    }
}

pub(crate) fn shapes(adapter: &Adapter, sheet: &mut Sheet) {
    for module in adapter.modules() {
        let pair = Pair::of(adapter, module);
        let (Some(a), Some(b)) = (pair.a, pair.b) else {
            let half = if pair.a.is_none() { "lora_A" } else { "lora_B" };
            sheet.check_at(
                false,
                0,
                || named("module", module),
                || Difference {
                    expected: "lora_A and lora_B".into(),
                    actual: format!("no {half}"),
                    component: Component::Checkpoint,
                    cause: "half of the adapter is not in the file: PEFT initialises it anew on loading"
                        .into(),
                },
            );
            continue;
        };
        let ranks = adapter.config.ranks(module);
        let wanted = ranks.iter().map(u64::to_string).collect::<Vec<_>>().join(" or ");
        for (tensor, axis, form) in [(a, 0, "[r, in]"), (b, 1, "[out, r]")] {
            // An empty one is artefact/empty-tensors' alone.
            if tensor.elements() == 0 {
                continue;
            }
            // In a grouped convolution, lora_B has only its group's part of the rank.
            let grouped = axis == 1 && tensor.shape.len() > 2;
            let fits = |&rank: &u64| {
                let found = tensor.shape.get(axis).map_or(0, |&found| found as u64);
                found == rank || (grouped && found > 0 && rank % found == 0)
            };
            sheet.tensor(tensor.shape.len() > 1 && ranks.iter().any(fits), &tensor.name, || Difference {
                expected: format!("{form} with r {wanted}"),
                actual: format!("{:?}", tensor.shape),
                component: Component::Adapters,
                cause: "the rank in the configuration does not match the tensor: the adapter does not load"
                    .into(),
            });
        }
        sheet.tensor(a.is_float() && a.dtype == b.dtype, &b.name, || Difference {
            expected: format!("the floating-point format of lora_A, {}", a.dtype),
            actual: b.dtype.to_string(),
            component: Component::Checkpoint,
            cause: "lora_A and lora_B are not in one floating-point format: one was saved or trained in another format".into(),
        });
        magnitude(adapter, module, pair.magnitude, b, sheet);
    }
}

fn magnitude(adapter: &Adapter, module: &str, found: Option<&Tensor>, b: &Tensor, sheet: &mut Sheet) {
    let out = b.shape.first().copied().unwrap_or(0);
    // An embedding has one magnitude per column, and B has as many rows.
    let fits = found.map_or(!adapter.config.use_dora, |it| adapter.config.use_dora && it.elements() == out);
    sheet.check_at(
        fits,
        0,
        || named("module", module),
        || Difference {
            expected: if adapter.config.use_dora {
                format!("a magnitude of {out} values")
            } else {
                "no magnitude".into()
            },
            actual: found.map_or("none".into(), |it| format!("one of shape {:?}", it.shape)),
            component: Component::Adapters,
            cause: "use_dora in the configuration does not match the tensors: the adapter loads as another method".into(),
        },
    );
}

pub(crate) fn scale(adapter: &Adapter, sheet: &mut Sheet) {
    let config = &adapter.config;
    let at = || named("field", "lora_alpha");
    sheet.check_at(
        config.r.is_some_and(|r| r > 0),
        0,
        || named("field", "r"),
        || Difference {
            expected: "a rank above 0".into(),
            actual: config.r.map_or("none".into(), |r| r.to_string()),
            component: Component::Adapters,
            cause: "without r PEFT uses 8".into(),
        },
    );
    let usable = |alpha: f64| alpha.is_finite() && alpha != 0.0;
    sheet.check_at(config.lora_alpha.is_some_and(usable), 0, at, || Difference {
        expected: "a finite number other than 0".into(),
        actual: config.lora_alpha.map_or("none".into(), |alpha| alpha.to_string()),
        component: Component::Adapters,
        cause: if config.lora_alpha.is_none() {
            "without lora_alpha PEFT uses 8, so the delta may have another scale than in training".into()
        } else {
            "lora_alpha is 0 or not finite, and the adapter's delta is multiplied by it".into()
        },
    });
    for (pattern, alpha) in config.alpha_pattern.iter().flatten() {
        sheet.check_at(
            alpha.as_f64().is_some_and(usable),
            0,
            || named("field", "alpha_pattern"),
            || Difference {
                expected: "finite numbers other than 0".into(),
                actual: format!("{pattern:?}: {alpha}"),
                component: Component::Adapters,
                cause:
                    "alpha is 0 or not finite, and the deltas of the pattern's modules are multiplied by it"
                        .into(),
            },
        );
    }
    let modules = adapter.modules().len();
    let (r, alpha) = (config.r.unwrap_or_default(), config.lora_alpha.unwrap_or_default());
    let root = if config.use_rslora { (r as f64).sqrt() } else { r as f64 };
    let by = if config.use_rslora { "lora_alpha / sqrt(r) (rsLoRA)" } else { "lora_alpha / r" };
    let dora = if config.use_dora { ", with magnitudes (DoRA)" } else { "" };
    sheet.remark(format!(
        "adapters of {modules} modules, r {r}, lora_alpha {alpha}, scaled by {by} = {}{dora}",
        traintrue_protocol::number::Number(alpha / root)
    ));
}

pub(crate) fn learns(adapter: &Adapter, sheet: &mut Sheet) {
    let is_matrix = |it: &&Tensor| matches!(module_of(&it.name).1, Part::A | Part::B) && it.elements() > 0;
    let matrices = || adapter.file.tensors.iter().filter(is_matrix);
    let all = matrices().count();
    let zero = matrices().filter(|it| it.zero).count();
    for tensor in matrices() {
        sheet.tensor(!tensor.zero, &tensor.name, || Difference {
            expected: "a value other than 0".into(),
            actual: format!("all {} values are 0, as in {zero} of {all} matrices", tensor.elements()),
            component: Component::Optimizer,
            cause: "the matrix still has its initial zeros: the optimizer does not hold it, requires_grad is off, or \
                    no gradient reaches it"
                .into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use safetensors::Dtype;
    use serde_json::{Value, json};

    use super::super::testing::{broke, holds};
    use super::*;
    use crate::artefact::testing::{Written, adapter_config, adapter_folder, adapter_tensors};

    type Change = fn(&mut Value, &mut Vec<Written>);

    fn judged(rule: fn(&Adapter, &mut Sheet), change: Change) -> Sheet {
        let folder = tempfile::tempdir().unwrap();
        let (mut config, mut tensors) = (adapter_config(), adapter_tensors(0.5));
        change(&mut config, &mut tensors);
        let folder = adapter_folder(&folder.path().join("adapter"), &config, &tensors);
        let files = ["adapter_config.json", "adapter_model.safetensors"].map(|name| folder.join(name));
        let mut sheet = Sheet::default();
        rule(&Adapter::read(&files[0], &files[1], false).unwrap(), &mut sheet);
        sheet
    }

    const B: &str = "base_model.model.layers.0.q_proj.lora_B.weight";

    fn swap(tensors: &mut Vec<Written>, name: &str, by: Option<Written>) {
        let before = tensors.len();
        tensors.retain(|it| it.name != name);
        assert_eq!(tensors.len() + 1, before);
        tensors.extend(by);
    }

    fn dora(config: &mut Value, tensors: &mut Vec<Written>) {
        config["use_dora"] = json!(true);
        for module in ["0.q_proj", "0.v_proj", "1.q_proj", "1.v_proj"] {
            let name = format!("base_model.model.layers.{module}.lora_magnitude_vector");
            tensors.push(Written::filled(&name, &[6], 1.0));
        }
    }

    #[rstest]
    #[case::lora(|_: &mut Value, _: &mut Vec<Written>| {})]
    #[case::dora(dora)]
    #[case::embedding(|_: &mut Value, tensors: &mut Vec<Written>| {
        tensors.push(Written::filled("base_model.model.embed_tokens.lora_embedding_A", &[4, 32], 0.5));
        tensors.push(Written::filled("base_model.model.embed_tokens.lora_embedding_B", &[6, 4], 0.5));
    })]
    #[case::convolution(|_: &mut Value, tensors: &mut Vec<Written>| {
        tensors.push(Written::filled("base_model.model.conv.lora_A.weight", &[4, 3, 5, 5], 0.5));
        tensors.push(Written::filled("base_model.model.conv.lora_B.weight", &[6, 4, 1, 1], 0.5));
    })]
    fn an_adapter_of_its_configuration_holds(#[case] change: Change) {
        for rule in [shapes, scale, learns] {
            holds(&judged(rule, change));
        }
    }

    #[rstest]
    #[case::rank(|config: &mut Value, _: &mut Vec<Written>| config["r"] = json!(8), "[r, in] with r 8, found [4, 8]")]
    #[case::pattern(|config: &mut Value, _: &mut Vec<Written>| config["rank_pattern"] = json!({}), "with r 4, found [2, 8]")]
    #[case::half(|_: &mut Value, it: &mut Vec<Written>| swap(it, B, None), "layers.0.q_proj: expected lora_A and \
        lora_B, found no lora_B: half of the adapter")]
    #[case::transposed(|_: &mut Value, it: &mut Vec<Written>| swap(it, B, Some(Written::filled(B, &[4, 6], 0.5))), "expected [out, r] with r 4, found [4, 6]")]
    #[case::flat(|_: &mut Value, it: &mut Vec<Written>| swap(it, B, Some(Written::filled(B, &[24], 0.5))), "found [24]")]
    #[case::format(|_: &mut Value, it: &mut Vec<Written>| swap(it, B, Some(Written::raw(B, Dtype::BF16, &[6, 4], &[0x3f; 48]))), "the floating-point format of lora_A, F32, found BF16")]
    #[case::no_magnitude(|config: &mut Value, _: &mut Vec<Written>| config["use_dora"] = json!(true), "expected a magnitude of 6 values, found none")]
    #[case::magnitude(|config: &mut Value, it: &mut Vec<Written>| { dora(config, it); config["use_dora"] = json!(false); }, "expected no magnitude")]
    fn tensors_of_another_configuration_break(#[case] change: Change, #[case] expected: &str) {
        let found = broke(&judged(shapes, change));
        assert!(found.contains(expected), "{found}");
    }

    #[rstest]
    #[case(|config: &mut Value, _: &mut Vec<Written>| { config.as_object_mut().unwrap().remove("lora_alpha"); }, "without lora_alpha PEFT uses 8")]
    #[case(|config: &mut Value, _: &mut Vec<Written>| { config.as_object_mut().unwrap().remove("r"); }, "without r PEFT uses 8")]
    #[case(|config: &mut Value, _: &mut Vec<Written>| config["lora_alpha"] = json!(0), "lora_alpha is 0 or not finite")]
    #[case(|config: &mut Value, _: &mut Vec<Written>| config["alpha_pattern"] = json!({"q_proj": 0}), "\"q_proj\": 0")]
    fn a_scale_that_is_lost_breaks(#[case] change: Change, #[case] expected: &str) {
        let found = broke(&judged(scale, change));
        assert!(found.contains(expected), "{found}");
    }

    #[rstest]
    #[case(|_: &mut Value, _: &mut Vec<Written>| {}, "r 4, lora_alpha 8, scaled by lora_alpha / r = 2.00000")]
    #[case(|config: &mut Value, _: &mut Vec<Written>| config["use_rslora"] = json!(true), "scaled by lora_alpha / \
        sqrt(r) (rsLoRA) = 4.00000")]
    fn the_scale_is_told(#[case] change: Change, #[case] expected: &str) {
        let sheet = judged(scale, change);
        assert!(sheet.remarks[0].contains(expected), "{:?}", sheet.remarks);
    }

    #[test]
    fn a_matrix_that_never_left_zero_breaks() {
        let sheet = judged(learns, |_, it| swap(it, B, Some(Written::filled(B, &[6, 4], 0.0))));
        let found = broke(&sheet);
        assert!(found.starts_with(B), "{found}");
        assert!(
            found.contains(
                "all 24 values are 0, as in 1 of 8 matrices: the matrix still has its initial zeros"
            ),
            "{found}"
        );
    }
}
