//! `artefact/shards`: an index names each tensor of its files once, and the files exist.

use traintrue_protocol::trace::recorded::Fact;
use traintrue_protocol::vocabulary::Component;

use super::named;
use crate::artefact::{Index, TensorFile};
use crate::finding::{Difference, Sheet};
use crate::rule::{Compares, Kind, Rank, Rule};

pub(crate) static RULE: Rule = Rule {
    name: "artefact/shards",
    says: "an index and its shards hold the same tensors",
    verifies: "Every file that the index names exists and holds exactly the tensors that the index puts in it.",
    does_not_verify: "That the index names all tensors of the model.",
    kind: Kind::Artefact,
    compares: Compares::Facts,
    judges_a_start: false,
    rank: Rank::Artefact,
    needs: &[Fact::Plan],
};

/// Judges an index by the shards that could be read.
pub(crate) fn judge(index: &Index, shards: &[TensorFile], sheet: &mut Sheet) {
    for path in index.shards() {
        let name = path.file_name().map(|it| it.to_string_lossy().into_owned()).unwrap_or_default();
        let shard = shards.iter().find(|it| it.path == path);
        sheet.check_at(
            shard.is_some(),
            0,
            || named("shard", &name),
            || Difference {
                expected: "a file, as the index names it".into(),
                actual: "none".into(),
                component: Component::Checkpoint,
                cause: "a shard was not saved or not copied: its tensors would be initialised at random"
                    .into(),
            },
        );
        let Some(shard) = shard else { continue };
        for (tensor, _) in index.files.iter().filter(|(_, file)| **file == name) {
            sheet.tensor(shard.find(tensor).is_some(), tensor, || Difference {
                expected: format!("a tensor of {name}, as the index has it"),
                actual: "none there".into(),
                component: Component::Checkpoint,
                cause: "the index and the shards are from different saves".into(),
            });
        }
        for tensor in &shard.tensors {
            let told = index.files.get(&tensor.name);
            sheet.tensor(told == Some(&name), &tensor.name, || Difference {
                expected: told.map_or("no tensor of this name, by the index".into(), |file| {
                    format!("in {file}, by the index")
                }),
                actual: format!("in {name}"),
                component: Component::Checkpoint,
                cause: "the index and the shards are from different saves".into(),
            });
        }
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;
    use serde_json::{Value, json};

    use super::super::testing::{broke, holds};
    use super::*;
    use crate::artefact::testing::{Written, safetensors};

    fn judged(map: Value) -> Sheet {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("model.safetensors.index.json");
        std::fs::write(&path, json!({"metadata": {"total_size": 8}, "weight_map": map}).to_string()).unwrap();
        for (file, tensor) in [("1.safetensors", "a"), ("2.safetensors", "b")] {
            std::fs::write(folder.path().join(file), safetensors(&[Written::filled(tensor, &[1], 1.0)]))
                .unwrap();
        }
        let index = Index::read(&path).unwrap();
        let shards = index.shards().into_iter().filter(|path| path.exists());
        let shards: Vec<TensorFile> = shards.map(|path| TensorFile::read(&path, false).unwrap()).collect();
        let mut sheet = Sheet::default();
        judge(&index, &shards, &mut sheet);
        sheet
    }

    #[test]
    fn an_index_of_its_shards_holds() {
        holds(&judged(json!({"a": "1.safetensors", "b": "2.safetensors"})));
    }

    #[rstest]
    #[case(json!({"a": "1.safetensors", "b": "3.safetensors"}), "3.safetensors: expected a file, as the index names \
        it, found none")]
    #[case(json!({"a": "1.safetensors", "c": "2.safetensors"}), "c: expected a tensor of 2.safetensors, as the index \
        has it")]
    #[case(json!({"a": "1.safetensors", "b": "1.safetensors"}), "b: expected a tensor of 1.safetensors")]
    fn an_index_of_other_shards_breaks(#[case] map: Value, #[case] expected: &str) {
        let found = broke(&judged(map));
        assert!(found.contains(expected), "{found}");
    }

    #[test]
    fn a_tensor_that_the_index_does_not_have_breaks() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("1.safetensors");
        let both = [Written::filled("a", &[1], 1.0), Written::filled("b", &[1], 1.0)];
        std::fs::write(&path, safetensors(&both)).unwrap();
        let files = [("a".to_owned(), "1.safetensors".to_owned())].into();
        let index = Index { path: folder.path().join("model.safetensors.index.json"), files };
        let mut sheet = Sheet::default();
        judge(&index, &[TensorFile::read(&path, false).unwrap()], &mut sheet);
        let found = broke(&sheet);
        assert!(
            found.contains("b: expected no tensor of this name, by the index, found in 1.safetensors"),
            "{found}"
        );
    }
}
