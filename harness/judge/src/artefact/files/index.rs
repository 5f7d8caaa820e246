//! An index of shards: `model.safetensors.index.json`, which says in which file each tensor is.

use std::collections::BTreeMap;
use std::path::{Component, Path, PathBuf};

use serde::Deserialize;
use traintrue_logs::json;

use super::error::ArtefactError;

/// The file of every tensor.
#[derive(Clone, Debug)]
pub struct Index {
    /// The file.
    pub path: PathBuf,
    /// File names by tensor.
    pub files: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct File {
    weight_map: BTreeMap<String, String>,
}

impl Index {
    /// Reads a file. Fails if it is not an index, or names a file outside its own folder: an index must not make the
    /// judge read other files.
    pub fn read(path: &Path) -> Result<Self, ArtefactError> {
        let text = json::read_text(path)?;
        let file: File = json::parse(path, &text)?;
        for name in file.weight_map.values() {
            let parts: Vec<Component> = Path::new(name).components().collect();
            if !matches!(parts[..], [Component::Normal(_)]) {
                return Err(ArtefactError::Elsewhere { path: path.to_owned(), file: name.clone() });
            }
        }
        Ok(Self { path: path.to_owned(), files: file.weight_map })
    }

    /// The files that it names, each once.
    pub fn shards(&self) -> Vec<PathBuf> {
        let mut names: Vec<&String> = self.files.values().collect();
        names.sort();
        names.dedup();
        names.into_iter().map(|name| self.path.with_file_name(name)).collect()
    }
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    #[rstest]
    #[case("{}", "missing field `weight_map`")]
    #[case("{\"weight_map\": {\"w\": 3}}", "weight_map.w: invalid type: integer `3`")]
    #[case(
        "{\"weight_map\": {\"w\": \"../other\"}}",
        "weight_map: \"../other\" is not a file beside the index"
    )]
    #[case(
        "{\"weight_map\": {\"w\": \"/etc/passwd\"}}",
        "weight_map: \"/etc/passwd\" is not a file beside the index"
    )]
    #[case("{\"weight_map\": {\"w\": \"\"}}", "weight_map: \"\" is not a file beside the index")]
    fn what_is_no_index_is_one_clear_error(#[case] text: &str, #[case] message: &str) {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        let error = Index::read(file.path()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }
}
