//! `artefact/finite-tensors`, `artefact/zero-tensors`, `artefact/empty-tensors`: values that no weight of a
//! trained model has.

use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::vocabulary::Component;

use crate::artefact::{Tensor, TensorFile};
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule};

pub(crate) static FINITE: Rule = Rule {
    name: "artefact/finite-tensors",
    says: "every value of every saved tensor is finite",
    verifies: "No value in a floating-point format, F8 and wider, is NaN or infinite.",
    does_not_verify: "Tensors in files that are pickles.",
    kind: Kind::Artefact,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Artefact,
    needs: &[Fact::Plan],
};

pub(crate) static ZERO: Rule = Rule {
    name: "artefact/zero-tensors",
    says: "no saved matrix is all zeros",
    verifies: "Every floating-point tensor with two or more dimensions has a value other than 0.",
    does_not_verify: "Vectors, which often start as zeros. Matrices of which only a part was lost. A matrix that \
                      starts as zeros on purpose and was not trained yet looks like a lost one.",
    kind: Kind::Artefact,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Artefact,
    needs: &[Fact::Plan],
};

pub(crate) static EMPTY: Rule = Rule {
    name: "artefact/empty-tensors",
    says: "no saved weight or bias is empty",
    verifies: "Every tensor whose name ends in weight or bias has a value.",
    does_not_verify: "Tensors with other names: buffers of quantised layers are empty on purpose.",
    kind: Kind::Artefact,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Artefact,
    needs: &[Fact::Plan],
};

pub(crate) fn finite(file: &TensorFile, sheet: &mut Sheet) {
    let lost = |it: &&Tensor| it.nonfinite > 0;
    let (all, broken) = (file.tensors.len(), file.tensors.iter().filter(lost).count());
    for tensor in file.tensors.iter().filter(|it| it.is_float()) {
        sheet.tensor(tensor.nonfinite == 0, &tensor.name, || Difference {
            expected: "finite values".into(),
            actual: format!(
                "{} of {} are NaN or infinite, in {broken} of {all} tensors",
                tensor.nonfinite,
                tensor.elements()
            ),
            component: Component::Numerics,
            cause: "an update with NaN or infinite gradients was applied, or the values overflow the format"
                .into(),
        });
    }
    if sheet.compared == 0 {
        sheet.cannot("the file has no floating-point tensor");
    }
}

/// Judges the tensors that `of` selects.
pub(crate) fn zero(file: &TensorFile, of: impl Fn(&Tensor) -> bool, sheet: &mut Sheet) {
    let matrix = |it: &&Tensor| it.is_float() && it.shape.len() > 1 && it.elements() > 0 && of(it);
    for tensor in file.tensors.iter().filter(matrix) {
        sheet.tensor(!tensor.zero, &tensor.name, || Difference {
            expected: "a value other than 0".into(),
            actual: format!("all {} values of shape {:?} are 0", tensor.elements(), tensor.shape),
            component: Component::Checkpoint,
            cause:
                "the matrix was saved before it was filled or gathered, or it started as zeros and was never trained"
                    .into(),
        });
    }
}

pub(crate) fn empty(file: &TensorFile, sheet: &mut Sheet) {
    let ends = |it: &&Tensor| ["weight", "bias"].iter().any(|end| it.name.ends_with(end));
    for tensor in file.tensors.iter().filter(ends) {
        sheet.tensor(tensor.elements() > 0, &tensor.name, || Difference {
            expected: "at least one value".into(),
            actual: format!("shape {:?}", tensor.shape),
            component: Component::Checkpoint,
            cause: "the tensor was partitioned over devices, or offloaded, and saved without being gathered"
                .into(),
        });
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use ::safetensors::Dtype;

    use super::super::testing::{broke, holds};
    use super::*;
    use crate::artefact::testing::{Written, safetensors};

    fn file(tensors: &[Written]) -> TensorFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), safetensors(tensors)).unwrap();
        TensorFile {
            path: Path::new("model.safetensors").into(),
            ..TensorFile::read(file.path(), false).unwrap()
        }
    }

    fn judged(tensors: &[Written]) -> [Sheet; 2] {
        let (file, mut sheets) = (file(tensors), [Sheet::default(), Sheet::default()]);
        finite(&file, &mut sheets[0]);
        zero(&file, |_| true, &mut sheets[1]);
        sheets
    }

    #[test]
    fn ordinary_weights_hold() {
        let tensors = [Written::filled("w", &[2, 2], 0.5), Written::filled("bias", &[2], 0.0)];
        judged(&tensors).iter().for_each(holds);
    }

    #[test]
    fn an_empty_weight_breaks() {
        let mut sheet = Sheet::default();
        empty(&file(&[Written::filled("modules_to_save.score.weight", &[0], 0.0)]), &mut sheet);
        let found = broke(&sheet);
        assert!(found.contains("score.weight: expected at least one value, found shape [0]"), "{found}");
        let mut sheet = Sheet::default();
        empty(
            &file(&[Written::filled("w.absmax", &[0], 0.0), Written::filled("w.weight", &[2], 0.0)]),
            &mut sheet,
        );
        holds(&sheet);
    }

    #[test]
    fn a_value_that_is_not_finite_breaks() {
        let [finite, _] = judged(&[Written::f32("w", &[3], &[1.0, f32::NAN, f32::INFINITY])]);
        let found = broke(&finite);
        assert!(
            found.contains("w: expected finite values, found 2 of 3 are NaN or infinite, in 1 of 1"),
            "{found}"
        );
    }

    #[test]
    fn a_matrix_of_zeros_breaks() {
        let [_, zero] = judged(&[Written::filled("w", &[2, 3], 0.0)]);
        let found = broke(&zero);
        assert!(found.contains("all 6 values of shape [2, 3] are 0"), "{found}");
    }

    #[test]
    fn a_file_without_real_numbers_is_not_judged() {
        let [finite, _] = judged(&[Written::raw("ids", Dtype::I64, &[2], &[0; 16])]);
        assert_eq!((finite.compared, finite.missing.is_some()), (0, true));
    }
}
