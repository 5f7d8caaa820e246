//! What a path holds. No other module knows file names.

use std::collections::BTreeSet;
use std::fs::{self, File};
use std::io::Read;
use std::path::{Path, PathBuf};

use traintrue_logs::{Layout, is_log};

use super::error::ArtefactError;

/// What [`Contents::of`] looks for, as errors say it.
pub(super) const LOOKED_FOR: &str = "trainer_state.json, adapter_config.json with adapter_model.safetensors, \
                                     *.safetensors, *.safetensors.index.json, a log (TensorBoard event files, \
                                     metrics.csv of Lightning, a run of MLflow, *.wandb, trainer_log.jsonl, or any \
                                     with --columns or --pattern), or a trace";

pub(super) const STATE: &str = "trainer_state.json";
pub(super) const ADAPTER_CONFIG: &str = "adapter_config.json";
pub(super) const ADAPTER: &str = "adapter_model.safetensors";
const INDEX: &str = ".safetensors.index.json";
const CONFIG: &str = "config.json";
const SCALER: &str = "scaler.pt";

/// Endings of files that are pickles, or archives of them.
const PICKLES: [&str; 5] = ["bin", "pt", "pth", "pkl", "ckpt"];

/// Pickles that hold the weights themselves.
const PICKLED_WEIGHTS: [&str; 3] = ["pytorch_model", "adapter_model", "model"];

/// The files of a path, by what they are.
#[derive(Debug, Default)]
pub(crate) struct Contents {
    pub(crate) state: Option<PathBuf>,
    /// Whether a loss scaler was saved beside the state: the run skips updates that overflow.
    pub(crate) scaled: bool,
    /// The configuration and the tensors of an adapter.
    pub(crate) adapter: Option<(PathBuf, PathBuf)>,
    /// The configuration of the model beside its weights.
    pub(crate) config: Option<PathBuf>,
    /// Another log than a trainer_state.json.
    pub(crate) log: bool,
    pub(crate) indices: Vec<PathBuf>,
    pub(crate) tensors: Vec<PathBuf>,
    /// Names of pickles that are there.
    pub(crate) pickles: Vec<String>,
}

/// Whether a path is to be read as a trace: it is not a folder, nor a file that [`crate::artefact::check`] knows by its
/// name.
pub fn is_trace(path: &Path, layout: &Layout) -> Result<bool, ArtefactError> {
    let known = name(path) == STATE
        || name(path) == ADAPTER_CONFIG
        || name(path).ends_with(INDEX)
        || ends(path, &["safetensors"])
        || ends(path, &PICKLES);
    if !known && is_log(path, layout)? {
        return Ok(false);
    }
    // A pipe is read as a trace. So is a path that does not exist: the trace reader then gives the error.
    Ok(!known && !path.is_dir() && (!path.is_file() || ends(path, &["jsonl"]) || opens_as_json(path)?))
}

impl Contents {
    /// Looks at file names only. Fails if none is known.
    pub(crate) fn of(path: &Path, layout: &Layout) -> Result<Self, ArtefactError> {
        let contents = if path.is_dir() { Self::folder(path, layout)? } else { Self::file(path, layout)? };
        match contents {
            Self { state: None, adapter: None, log: false, .. }
                if contents.indices.is_empty()
                    && contents.tensors.is_empty()
                    && !contents.weights_pickled() =>
            {
                Err(ArtefactError::Unknown { path: path.to_owned(), found: found(path)? })
            }
            contents => Ok(contents),
        }
    }

    /// Whether the weights exist only as a pickle.
    pub(crate) fn weights_pickled(&self) -> bool {
        let weights = |file: &String| PICKLED_WEIGHTS.iter().any(|name| file.starts_with(name));
        self.tensors.is_empty() && self.adapter.is_none() && self.pickles.iter().any(weights)
    }

    fn file(path: &Path, layout: &Layout) -> Result<Self, ArtefactError> {
        let mut contents = Self::default();
        fs::metadata(path).map_err(ArtefactError::io(path))?;
        let beside = |name: &str| path.with_file_name(name);
        match name(path) {
            STATE => {
                contents.scaled = beside(SCALER).exists();
                contents.state = Some(path.to_owned());
            }
            ADAPTER_CONFIG => contents.adapter = Some((path.to_owned(), beside(ADAPTER))),
            ADAPTER if beside(ADAPTER_CONFIG).exists() => {
                contents.adapter = Some((beside(ADAPTER_CONFIG), path.to_owned()));
            }
            index if index.ends_with(INDEX) => contents.indices.push(path.to_owned()),
            _ if ends(path, &["safetensors"]) => contents.tensors.push(path.to_owned()),
            _ if ends(path, &PICKLES) => return Err(ArtefactError::Pickle { path: path.to_owned() }),
            _ => contents.log = is_log(path, layout)?,
        }
        let weights = !contents.tensors.is_empty() || !contents.indices.is_empty();
        contents.config = Some(beside(CONFIG)).filter(|path| weights && path.is_file());
        if let Some((_, tensors)) = contents.adapter.as_ref().filter(|(_, tensors)| !tensors.exists()) {
            let missing = ADAPTER;
            let path = tensors.with_file_name(ADAPTER_CONFIG);
            return Err(ArtefactError::Alone { path, missing });
        }
        Ok(contents)
    }

    fn folder(path: &Path, layout: &Layout) -> Result<Self, ArtefactError> {
        let files = files(path)?;
        let has = |name: &str| files.contains(name);
        let of = |wanted: &dyn Fn(&str) -> bool| -> Vec<PathBuf> {
            files.iter().filter(|file| wanted(file)).map(|file| path.join(file)).collect()
        };
        let pickles = files.iter().filter(|file| ends(Path::new(file), &PICKLES)).cloned().collect();
        let adapter = match (has(ADAPTER_CONFIG), has(ADAPTER)) {
            (true, true) => Some((path.join(ADAPTER_CONFIG), path.join(ADAPTER))),
            // The adapter's weights may be a pickle, which is reported elsewhere.
            (true, false) if !has("adapter_model.bin") => {
                return Err(ArtefactError::Alone { path: path.join(ADAPTER_CONFIG), missing: ADAPTER });
            }
            (false, true) => {
                return Err(ArtefactError::Alone { path: path.join(ADAPTER), missing: ADAPTER_CONFIG });
            }
            _ => None,
        };
        let model = |file: &str| file.starts_with("model") && file.ends_with(".safetensors");
        let mut tensors = of(&model);
        if tensors.is_empty() && adapter.is_none() {
            tensors = of(&|file| file.ends_with(".safetensors"));
        }
        let contents = Self {
            state: has(STATE).then(|| path.join(STATE)),
            scaled: has(SCALER),
            adapter,
            indices: of(&|file| file.ends_with(INDEX)),
            tensors,
            pickles,
            config: has(CONFIG).then(|| path.join(CONFIG)),
            log: false,
        };
        // Beside a checkpoint's own files a log is not looked for: it is named to be judged.
        let other = contents.state.is_none() && contents.adapter.is_none() && contents.tensors.is_empty();
        Ok(Self { log: other && is_log(path, layout)?, ..contents })
    }
}

fn files(folder: &Path) -> Result<BTreeSet<String>, ArtefactError> {
    let mut names = BTreeSet::new();
    for entry in fs::read_dir(folder).map_err(ArtefactError::io(folder))? {
        let entry = entry.map_err(ArtefactError::io(folder))?;
        // All known names are UTF-8, so other names are ignored.
        names.extend(entry.file_name().into_string());
    }
    Ok(names)
}

/// What the path holds in place of a known file, for the error.
fn found(path: &Path) -> Result<String, ArtefactError> {
    if !path.is_dir() {
        return Ok("a file of an unknown kind".to_owned());
    }
    let files = files(path)?;
    let within: Vec<&str> =
        files.iter().filter(|name| name.starts_with("checkpoint-")).map(String::as_str).collect();
    Ok(match (files.len(), within.as_slice()) {
        (0, _) => "an empty folder".to_owned(),
        (_, []) => format!("a folder of {} others", files.len()),
        (_, checkpoints) => format!("a folder with {}: name one of them", checkpoints.join(", ")),
    })
}

fn name(path: &Path) -> &str {
    path.file_name().and_then(|name| name.to_str()).unwrap_or_default()
}

fn ends(path: &Path, extensions: &[&str]) -> bool {
    path.extension().and_then(|it| it.to_str()).is_some_and(|it| extensions.contains(&it))
}

fn opens_as_json(path: &Path) -> Result<bool, ArtefactError> {
    let mut beginning = [0; 64];
    let read =
        File::open(path).and_then(|mut file| file.read(&mut beginning)).map_err(ArtefactError::io(path))?;
    Ok(beginning[..read].trim_ascii_start().starts_with(b"{"))
}

#[cfg(test)]
mod tests {
    use rstest::rstest;

    use super::*;

    fn folder(files: &[&str]) -> tempfile::TempDir {
        let folder = tempfile::tempdir().unwrap();
        for file in files {
            fs::write(folder.path().join(file), "{}").unwrap();
        }
        folder
    }

    #[rstest]
    #[case(&["trainer_state.json", "scaler.pt", "model.safetensors"], (true, true, false, 0, 1))]
    #[case(&["trainer_state.json", "adapter_config.json", "adapter_model.safetensors"], (true, false, true, 0, 0))]
    #[case(&["model.safetensors.index.json", "model-00001-of-00002.safetensors", "other.safetensors"], (false, false, false, 1, 1))]
    #[case(&["other.safetensors"], (false, false, false, 0, 1))]
    fn a_folder_is_known_by_its_files(
        #[case] files: &[&str],
        #[case] expected: (bool, bool, bool, usize, usize),
    ) {
        let it = Contents::of(folder(files).path(), &Layout::default()).unwrap();
        let actual =
            (it.state.is_some(), it.scaled, it.adapter.is_some(), it.indices.len(), it.tensors.len());
        assert_eq!(actual, expected);
    }

    #[rstest]
    #[case::empty(&[], "", "an empty folder; looked for trainer_state.json")]
    #[case::others(&["notes.md"], "", "a folder of 1 others")]
    #[case::run(&["checkpoint-5", "notes.md"], "", "a folder with checkpoint-5: name one of them")]
    #[case::config_alone(&["adapter_config.json"], "", "adapter_model.safetensors is missing beside it")]
    #[case::config_named(&["adapter_config.json"], "adapter_config.json", "adapter_model.safetensors is missing beside \
        it")]
    #[case::tensors_alone(&["adapter_model.safetensors"], "", "adapter_config.json is missing beside it")]
    #[case::pickle(&["optimizer.pt"], "optimizer.pt", "a pickle; loading it runs code")]
    #[case::missing(&[], "model.safetensors", "cannot be read")]
    fn what_cannot_be_judged_says_so(#[case] files: &[&str], #[case] path: &str, #[case] message: &str) {
        let error =
            Contents::of(&folder(files).path().join(path), &Layout::default()).unwrap_err().to_string();
        assert!(error.contains(message), "{error}");
    }

    #[test]
    fn a_pickle_is_no_weight_that_can_be_judged() {
        let it =
            Contents::of(folder(&["pytorch_model.bin", "config.json"]).path(), &Layout::default()).unwrap();
        assert!(it.weights_pickled());
        assert_eq!(it.pickles, ["pytorch_model.bin"]);
    }

    #[rstest]
    #[case("run.jsonl", "", true)]
    #[case("run.json", " {\"event\":1}", true)]
    #[case("trainer_state.json", "{}", false)]
    #[case("model.safetensors", "{}", false)]
    #[case("weights.bin", "{", false)]
    #[case("notes.txt", "words", false)]
    #[case("not-there", "", true)]
    fn the_rest_is_a_trace(#[case] name: &str, #[case] text: &str, #[case] expected: bool) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join(name);
        if name != "not-there" {
            fs::write(&path, text).unwrap();
        }
        assert_eq!(is_trace(&path, &Layout::default()).unwrap(), expected);
    }
}
