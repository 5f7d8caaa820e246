//! `artefact/same-tensors`, `artefact/moves`: two checkpoints of one run, the later compared with the earlier.

use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::vocabulary::Component;

use crate::artefact::{Tensor, TensorFile};
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule};

pub(crate) static SAME: Rule = Rule {
    name: "artefact/same-tensors",
    says: "two checkpoints of one run hold the same tensors",
    verifies: "The later checkpoint has exactly the tensors of the earlier one, in the same shapes and number formats.",
    does_not_verify: "Their values (artefact/moves).",
    kind: Kind::Artefact,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Artefact,
    needs: &[Fact::Plan],
};

pub(crate) static MOVES: Rule = Rule {
    name: "artefact/moves",
    says: "between two checkpoints of one run, trained tensors change and frozen tensors do not",
    verifies: "Every matrix, magnitude and bias of an adapter, and every tensor of modules_to_save, has other bits \
               than in the earlier checkpoint. Every saved base weight under an adapter has the same bits. If the \
               files do not say what is trained, at least one tensor changed.",
    does_not_verify: "That a tensor changed by the right amount. Base weights that are not saved. Matrices that an \
                      adapter freezes on purpose (LoRA-FA) look like matrices that do not learn.",
    kind: Kind::Artefact,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Artefact,
    needs: &[Fact::Plan],
};

/// What training does to a tensor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Role {
    Trained,
    Frozen,
    /// The files do not say.
    Unknown,
}

pub(crate) fn same(later: &TensorFile, earlier: &TensorFile, sheet: &mut Sheet) {
    for was in &earlier.tensors {
        let is = later.find(&was.name);
        let shown = |it: &Tensor| format!("{} {:?}", it.dtype, it.shape);
        sheet.tensor(
            is.is_some_and(|is| (is.dtype, &is.shape) == (was.dtype, &was.shape)),
            &was.name,
            || Difference {
                expected: format!("{}, as in {}", shown(was), earlier.path.display()),
                actual: is.map_or("none".into(), shown),
                component: Component::Checkpoint,
                cause: match is {
                    None => "the tensor was lost between the two: a resumed run did not restore it".into(),
                    Some(is) if is.shape == was.shape => {
                        "the number format changed between the two: the tensor was cast, for example on a reload".into()
                    }
                    Some(_) => "the shapes differ: the checkpoints are of different models".into(),
                },
            },
        );
    }
    for is in &later.tensors {
        sheet.tensor(earlier.find(&is.name).is_some(), &is.name, || Difference {
            expected: format!("a tensor that {} has", earlier.path.display()),
            actual: "a tensor that it does not have".into(),
            component: Component::Checkpoint,
            cause:
                "the tensor appeared between the two: they are of different runs, or the earlier one lost it"
                    .into(),
        });
    }
}

/// Judges the tensors that both files have. Both must be read with digests.
pub(crate) fn moves(
    later: &TensorFile,
    earlier: &TensorFile,
    role: impl Fn(&Tensor) -> Role,
    sheet: &mut Sheet,
) {
    let (mut trained, mut unknown, mut still) = (0_u64, 0_u64, 0_u64);
    let both = later.tensors.iter().filter_map(|is| Some((is, earlier.find(&is.name)?)));
    for (is, was) in both {
        // Digests and not values: the earlier file need not be in memory.
        let moved = is.digest != was.digest;
        match role(is) {
            Role::Trained => {
                trained += 1;
                sheet.tensor(moved, &is.name, || Difference {
                    expected: format!("other values than in {}", earlier.path.display()),
                    actual: "the same, bit for bit".into(),
                    component: Component::Optimizer,
                    cause: "a trained tensor did not change: the optimizer does not hold it, no gradient reaches it, \
                            or its updates are below half a step of its number format"
                        .into(),
                });
            }
            Role::Frozen => {
                sheet.tensor(!moved, &is.name, || Difference {
                    expected: format!("the values of {}, bit for bit", earlier.path.display()),
                    actual: "other values".into(),
                    component: Component::Optimizer,
                    cause: "a base weight under an adapter changed: it was not frozen, or an adapter was merged into \
                            it".into(),
                });
            }
            Role::Unknown => (unknown, still) = (unknown + 1, still + u64::from(!moved)),
        }
    }
    if trained == 0 && unknown > 0 {
        sheet.check_at(
            still < unknown,
            0,
            || super::named("file", "all"),
            || Difference {
                expected: format!("a tensor with other values than in {}", earlier.path.display()),
                actual: format!("all {unknown} are the same, bit for bit"),
                component: Component::Optimizer,
                cause: "nothing was trained between the two".into(),
            },
        );
    }
    if still > 0 {
        sheet.remark(format!(
            "{still} of {unknown} tensors did not change; the files do not say whether they are trained"
        ));
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use safetensors::Dtype;

    use super::super::testing::{broke, holds};
    use super::*;
    use crate::artefact::testing::{Written, safetensors};

    fn file(tensors: &[Written]) -> TensorFile {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), safetensors(tensors)).unwrap();
        TensorFile { path: "earlier.safetensors".into(), ..TensorFile::read(file.path(), true).unwrap() }
    }

    fn weights(trained: f32, frozen: f32) -> TensorFile {
        file(&[Written::filled("trained", &[2, 2], trained), Written::filled("frozen", &[2, 2], frozen)])
    }

    fn role(tensor: &Tensor) -> Role {
        if tensor.name == "trained" { Role::Trained } else { Role::Frozen }
    }

    fn moved(trained: f32, frozen: f32, role: fn(&Tensor) -> Role) -> Sheet {
        let mut sheet = Sheet::default();
        moves(&weights(trained, frozen), &weights(1.0, 1.0), role, &mut sheet);
        sheet
    }

    #[test]
    fn trained_tensors_that_moved_and_frozen_ones_that_did_not_hold() {
        holds(&moved(2.0, 1.0, role));
        let sheet = moved(2.0, 1.0, |_| Role::Unknown);
        holds(&sheet);
        assert!(sheet.remarks[0].starts_with("1 of 2 tensors"), "{:?}", sheet.remarks);
    }

    #[rstest]
    #[case::still(
        1.0,
        1.0,
        role,
        "trained: expected other values than in earlier.safetensors, found the same"
    )]
    #[case::moved(
        2.0,
        2.0,
        role,
        "frozen: expected the values of earlier.safetensors, bit for bit, found other values"
    )]
    #[case::nothing(1.0, 1.0, |_: &Tensor| Role::Unknown, "all 2 are the same, bit for bit: nothing was trained")]
    fn a_wrong_move_breaks(
        #[case] trained: f32,
        #[case] frozen: f32,
        #[case] role: fn(&Tensor) -> Role,
        #[case] expected: &str,
    ) {
        let found = broke(&moved(trained, frozen, role));
        assert!(found.contains(expected), "{found}");
    }

    #[rstest]
    #[case::lost(
        Vec::new(),
        "frozen: expected F32 [2, 2], as in earlier.safetensors, found none: the tensor was lost between the two"
    )]
    #[case::cast(vec![Written::raw("frozen", Dtype::BF16, &[2, 2], &[0; 8])], "found BF16 [2, 2]: the number format \
        changed")]
    #[case::shape(vec![Written::filled("frozen", &[4], 1.0)], "found F32 [4]: the shapes differ: the checkpoints are \
        of different models")]
    #[case::new(
        vec![Written::filled("frozen", &[2, 2], 1.0), Written::filled("new", &[2], 1.0)],
        "new: expected a tensor that earlier.safetensors has"
    )]
    fn other_tensors_break(#[case] instead: Vec<Written>, #[case] expected: &str) {
        let mut later: Vec<Written> = vec![Written::filled("trained", &[2, 2], 1.0)];
        later.extend(instead);
        let mut sheet = Sheet::default();
        same(&file(&later), &weights(1.0, 1.0), &mut sheet);
        let found = broke(&sheet);
        assert!(found.contains(expected), "{found}");
    }

    #[test]
    fn the_same_tensors_hold() {
        let mut sheet = Sheet::default();
        same(&weights(1.0, 2.0), &weights(3.0, 4.0), &mut sheet);
        holds(&sheet);
    }
}
