//! Writes a checkpoint whole or not at all, and finds the newest good one.
//!
//! A checkpoint is a folder. It is written under a temporary name: every file is synced, the manifest last. Then the folder
//! is renamed and its parent synced. The manifest has a checksum of every file and tensor. A folder whose files do not
//! match its manifest is damaged: the trace says so, and an older good checkpoint is loaded.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::{fs, io};

use serde::{Deserialize, Serialize};
use traintrue_protocol::trace::event::Cursor;

use super::files::Files;
use super::format::{Content, NamedTensor, TrainerRecord, from_safetensors, to_safetensors};

/// The manifest's file name.
pub const MANIFEST: &str = "manifest.json";
const RECORD: &str = "trainer.json";
const ADAPTER_CONFIG: &str = "adapter_config.json";
const TEMPORARY: &str = ".writing-";
const OBSOLETE: &str = ".obsolete-";
/// Checkpoints that are kept: the newest, and one in case the newest is damaged.
const KEPT: usize = 2;

/// Checksums of everything in a checkpoint.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Manifest {
    /// The version of this format: 1.
    pub schema: u32,
    /// The position in the data.
    pub cursor: Cursor,
    /// BLAKE3 of each file, by name.
    pub files: BTreeMap<String, String>,
    /// BLAKE3 of each tensor's values, by file and name.
    pub tensors: BTreeMap<String, BTreeMap<String, String>>,
}

/// The parts of the store.
#[derive(Clone, Copy)]
pub struct StoreParts {
    /// Writes a checkpoint into `root`, and returns its folder.
    pub save: fn(&mut dyn Files, root: &Path, &Content) -> Result<PathBuf, CheckpointError>,
    /// Checks a file against the manifest. The error names the tensor.
    pub verify: fn(&Manifest, file: &str, bytes: &[u8]) -> Result<(), String>,
}

impl Default for StoreParts {
    fn default() -> Self {
        Self { save: save_atomically, verify: verify_checksums }
    }
}

/// A checkpoint that cannot be written or read.
#[derive(Debug, thiserror::Error)]
#[allow(missing_docs, reason = "the messages say it")]
pub enum CheckpointError {
    #[error("{path}: cannot {what}: {source}", path = .path.display())]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("{path}: cannot encode: {reason}", path = .path.display())]
    Encode { path: PathBuf, reason: String },
    #[error("{root}: no checkpoint here; start.from names a folder that a run has saved into", root = .root.display())]
    None { root: PathBuf },
    #[error("{root}: no good checkpoint here: {}", .damaged.join("; "), root = .root.display())]
    AllDamaged { root: PathBuf, damaged: Vec<String> },
    #[error("{path}: {problem}", path = .path.display())]
    Mismatch { path: PathBuf, problem: String },
}

/// The newest good checkpoint of a folder.
pub struct Found {
    /// The checkpoint's folder.
    pub path: PathBuf,
    /// The checkpoint's content.
    pub content: Content,
    /// Newer checkpoints that are damaged, each with the reason.
    pub damaged: Vec<String>,
}

/// The store of one run.
pub struct Store {
    /// How a checkpoint is written and verified.
    pub parts: StoreParts,
    /// The file operations, counted.
    pub files: Box<dyn Files>,
}

impl Store {
    /// Writes a checkpoint, and removes all but the newest two. Returns its folder and the removed folders.
    pub fn save(
        &mut self,
        root: &Path,
        content: &Content,
    ) -> Result<(PathBuf, Vec<PathBuf>), CheckpointError> {
        let path = (self.parts.save)(self.files.as_mut(), root, content)?;
        let mut removed = Vec::new();
        for (_, old) in newest_first(root)?.into_iter().skip(KEPT) {
            remove(self.files.as_mut(), root, &old)?;
            removed.push(old);
        }
        Ok((path, removed))
    }

    /// The newest good checkpoint in `root`.
    pub fn load(&self, root: &Path) -> Result<Found, CheckpointError> {
        let mut damaged = Vec::new();
        for (_, path) in newest_first(root)? {
            match read(&path, self.parts.verify) {
                Ok(content) => {
                    return Ok(Found { path, content, damaged });
                }
                Err(problem) => damaged.push(format!("{}: {problem}", path.display())),
            }
        }
        if damaged.is_empty() {
            return Err(CheckpointError::None { root: root.to_owned() });
        }
        Err(CheckpointError::AllDamaged { root: root.to_owned(), damaged })
    }
}

/// Writes everything under a temporary name, syncs it, then renames it.
pub fn save_atomically(
    files: &mut dyn Files,
    root: &Path,
    content: &Content,
) -> Result<PathBuf, CheckpointError> {
    let name = folder_name(content.record.cursor);
    let (temporary, path) = (root.join(format!("{TEMPORARY}{name}")), root.join(&name));
    if temporary.exists() {
        step("remove a folder left by an interrupted save", &temporary, files.remove_folder(&temporary))?;
    }
    step("make a folder", &temporary, files.create_folder(&temporary))?;
    let encoded = files_of(&temporary, content)?;
    write_files(files, &temporary, &encoded)?;
    write_manifest(files, &temporary, content, &encoded)?;
    if path.exists() {
        remove(files, root, &path)?;
    }
    step("rename", &temporary, files.rename(&temporary, &path))?;
    step("sync the folder", root, files.sync_folder(root))?;
    Ok(path)
}

/// Renames a folder, then removes it. A crash in the middle of a removal must not leave a damaged checkpoint.
fn remove(files: &mut dyn Files, root: &Path, path: &Path) -> Result<(), CheckpointError> {
    let name = path.file_name().unwrap_or_default().to_string_lossy();
    let obsolete = root.join(format!("{OBSOLETE}{name}"));
    if obsolete.exists() {
        step("remove", &obsolete, files.remove_folder(&obsolete))?;
    }
    step("rename", path, files.rename(path, &obsolete))?;
    step("remove", &obsolete, files.remove_folder(&obsolete))
}

/// Adds the operation and the path to an error.
pub fn step(what: &'static str, path: &Path, result: io::Result<()>) -> Result<(), CheckpointError> {
    result.map_err(|source| CheckpointError::Io { what, path: path.to_owned(), source })
}

/// The name of a checkpoint's folder. Names sort by time.
pub fn folder_name(cursor: Cursor) -> String {
    format!("epoch-{:06}-micro-batch-{:09}", cursor.epoch, cursor.micro_batches)
}

/// The bytes of a checkpoint's files by name, without the manifest.
pub type Encoded = BTreeMap<String, Vec<u8>>;

/// Encodes the files of a checkpoint.
pub fn files_of(path: &Path, content: &Content) -> Result<Encoded, CheckpointError> {
    let encode = |reason: String| CheckpointError::Encode { path: path.to_owned(), reason };
    let mut files = BTreeMap::new();
    for (name, tensors) in &content.tensors {
        files.insert(name.clone(), to_safetensors(tensors).map_err(|error| encode(error.to_string()))?);
    }
    let record = serde_json::to_vec_pretty(&content.record).map_err(|error| encode(error.to_string()))?;
    files.insert(RECORD.to_owned(), record);
    if let Some(config) = &content.adapter_config {
        let config = serde_json::to_vec_pretty(config).map_err(|error| encode(error.to_string()))?;
        files.insert(ADAPTER_CONFIG.to_owned(), config);
    }
    Ok(files)
}

/// Writes the files into `folder`, in the order of their names, and syncs each.
pub fn write_files(files: &mut dyn Files, folder: &Path, encoded: &Encoded) -> Result<(), CheckpointError> {
    for (name, bytes) in encoded {
        write_synced(files, &folder.join(name), bytes)?;
    }
    Ok(())
}

fn write_synced(files: &mut dyn Files, file: &Path, bytes: &[u8]) -> Result<(), CheckpointError> {
    step("write", file, files.write(file, bytes))?;
    step("sync", file, files.sync(file))
}

/// Writes the manifest of `content` and its files into `folder`, and syncs it.
pub fn write_manifest(
    files: &mut dyn Files,
    folder: &Path,
    content: &Content,
    encoded: &Encoded,
) -> Result<(), CheckpointError> {
    let of_tensors =
        |tensors: &[NamedTensor]| tensors.iter().map(|it| (it.name.clone(), checksum_of(it))).collect();
    let manifest = Manifest {
        schema: 1,
        cursor: content.record.cursor,
        files: encoded.iter().map(|(name, bytes)| (name.clone(), checksum(bytes))).collect(),
        tensors: content.tensors.iter().map(|(file, tensors)| (file.clone(), of_tensors(tensors))).collect(),
    };
    let path = folder.join(MANIFEST);
    let bytes = serde_json::to_vec_pretty(&manifest)
        .map_err(|error| CheckpointError::Encode { path: path.clone(), reason: error.to_string() })?;
    write_synced(files, &path, &bytes)
}

fn checksum(bytes: &[u8]) -> String {
    blake3::hash(bytes).to_hex().to_string()
}

fn checksum_of(tensor: &NamedTensor) -> String {
    checksum(&tensor.values.iter().flat_map(|x| x.to_le_bytes()).collect::<Vec<u8>>())
}

/// Checks a file by its checksum. Only where that fails, the tensors are read, to name the one that changed.
fn verify_checksums(manifest: &Manifest, file: &str, bytes: &[u8]) -> Result<(), String> {
    match manifest.files.get(file) {
        Some(expected) if *expected == checksum(bytes) => return Ok(()),
        Some(_) => {}
        None => return Err(format!("{file}: not in the manifest")),
    }
    if !manifest.tensors.contains_key(file) {
        return Err(format!("{file}: the checksum does not match"));
    }
    let tensors = from_safetensors(bytes).map_err(|problem| format!("{file}: {problem}"))?;
    let expected = &manifest.tensors[file];
    let changed = tensors.iter().find(|tensor| expected.get(&tensor.name) != Some(&checksum_of(tensor)));
    Err(match changed {
        Some(tensor) => {
            format!("{file}: tensor {} is not what was written: its checksum does not match", tensor.name)
        }
        None => format!("{file}: the header is not what was written"),
    })
}

/// Folders with a manifest, newest first. A folder without one was never finished, and is no checkpoint.
fn newest_first(root: &Path) -> Result<Vec<(String, PathBuf)>, CheckpointError> {
    let entries = match fs::read_dir(root) {
        Ok(entries) => entries,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(source) => {
            return Err(CheckpointError::Io { what: "read the folder", path: root.to_owned(), source });
        }
    };
    let mut found: Vec<(String, PathBuf)> = entries
        .flatten()
        .map(|entry| (entry.file_name().to_string_lossy().into_owned(), entry.path()))
        .filter(|(name, path)| !name.starts_with('.') && path.join(MANIFEST).exists())
        .collect();
    found.sort();
    found.reverse();
    Ok(found)
}

fn read(path: &Path, verify: fn(&Manifest, &str, &[u8]) -> Result<(), String>) -> Result<Content, String> {
    let bytes = |file: &str| fs::read(path.join(file)).map_err(|error| format!("{file}: {error}"));
    let manifest: Manifest =
        serde_json::from_slice(&bytes(MANIFEST)?).map_err(|error| format!("{MANIFEST}: {error}"))?;
    let mut tensors = BTreeMap::new();
    let (mut record, mut adapter_config) = (None, None);
    for file in manifest.files.keys() {
        let bytes = bytes(file)?;
        verify(&manifest, file, &bytes)?;
        let json = |error: serde_json::Error| format!("{file}: {error}");
        match file.as_str() {
            RECORD => record = Some(serde_json::from_slice::<TrainerRecord>(&bytes).map_err(json)?),
            ADAPTER_CONFIG => adapter_config = Some(serde_json::from_slice(&bytes).map_err(json)?),
            _ => {
                let read = from_safetensors(&bytes).map_err(|problem| format!("{file}: {problem}"))?;
                tensors.insert(file.clone(), read);
            }
        }
    }
    let record = record.ok_or_else(|| format!("{RECORD}: not in the manifest"))?;
    Ok(Content { tensors, record, adapter_config })
}
