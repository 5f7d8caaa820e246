//! `artefact/tied-embeddings`: embeddings that the configuration ties are one matrix in the file.

use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::vocabulary::Component;

use crate::artefact::{Tensor, TensorFile};
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule};

pub(crate) static RULE: Rule = Rule {
    name: "artefact/tied-embeddings",
    says: "input and output embeddings that config.json ties are equal in the file",
    verifies: "Where config.json has tie_word_embeddings, or names a model that ties by default (GPT-2, BERT), a saved output embedding (lm_head, embed_out, \
               cls.predictions.decoder) has the bits of the saved input embedding of its shape.",
    does_not_verify: "Other models whose configuration does not say it. Other tied tensors. Embeddings \
                      of which only one is saved, as is usual.",
    kind: Kind::Artefact,
    compares: Compares::Bits,
    judges_a_start: false,
    rank: Rank::Artefact,
    needs: &[Fact::Plan],
};

/// Ends of the names of input embeddings.
const INPUTS: [&str; 6] = [
    "embed_tokens.weight",
    "wte.weight",
    "word_embeddings.weight",
    "embed_in.weight",
    "shared.weight",
    "tok_embeddings.weight",
];
/// Ends of the names of output embeddings.
const OUTPUTS: [&str; 4] =
    ["lm_head.weight", "embed_out.weight", "output.weight", "predictions.decoder.weight"];

pub(crate) fn judge(file: &TensorFile, sheet: &mut Sheet) {
    let named = |ends: &[&str]| -> Vec<&Tensor> {
        let ends_so = |tensor: &&Tensor| {
            ends.iter().any(|end| {
                tensor.name.strip_suffix(end).is_some_and(|rest| rest.is_empty() || rest.ends_with('.'))
            })
        };
        file.tensors.iter().filter(ends_so).collect()
    };
    let inputs = named(&INPUTS);
    for output in named(&OUTPUTS) {
        let mut same = inputs.iter().filter(|input| input.shape == output.shape).peekable();
        let Some(input) = same.peek().map(|input| input.name.clone()) else { continue };
        let equal = same.any(|input| input.dtype == output.dtype && input.digest == output.digest);
        sheet.tensor(equal, &output.name, || Difference {
            expected: format!("the values of {input}: config.json ties them"),
            actual: "other values".into(),
            component: Component::Checkpoint,
            cause: "the two were trained apart, and loading ties them: the trained output embedding is lost"
                .into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::super::testing::{broke, holds};
    use super::*;
    use crate::artefact::testing::{Written, safetensors};

    fn judged(tensors: &[Written]) -> Sheet {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), safetensors(tensors)).unwrap();
        let mut sheet = Sheet::default();
        judge(&TensorFile::read(file.path(), true).unwrap(), &mut sheet);
        sheet
    }

    fn pair(input: &str, output: &str, value: f32) -> [Written; 2] {
        [Written::filled(input, &[8, 4], 0.5), Written::filled(output, &[8, 4], value)]
    }

    #[rstest]
    #[case("model.embed_tokens.weight", "lm_head.weight")]
    #[case("transformer.wte.weight", "lm_head.weight")]
    #[case("bert.embeddings.word_embeddings.weight", "cls.predictions.decoder.weight")]
    fn two_of_one_value_hold_and_two_of_different_values_break(#[case] input: &str, #[case] output: &str) {
        holds(&judged(&pair(input, output, 0.5)));
        let found = broke(&judged(&pair(input, output, 0.25)));
        assert!(found.starts_with(output), "{found}");
        assert!(found.contains(&format!("expected the values of {input}: config.json ties them")), "{found}");
    }

    #[test]
    fn one_alone_is_the_usual_form() {
        assert_eq!(judged(&[Written::filled("model.embed_tokens.weight", &[8, 4], 0.5)]).compared, 0);
        let other_shape =
            [Written::filled("wte.weight", &[8, 4], 0.5), Written::filled("lm_head.weight", &[2, 4], 0.5)];
        assert_eq!(judged(&other_shape).compared, 0);
    }
}
